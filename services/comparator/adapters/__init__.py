"""One file an outside part: the gateway over HTTP, the report's pages by jinja2, the machine's description."""
