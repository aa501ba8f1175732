"""Wire models shared by the client and the services, one module a resource."""
