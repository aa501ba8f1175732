"""Network policies: nobody talks to anybody, but for the inventory's edges.

vLLM's child listens inside inference's pod alone. What it leaves open (/metrics, /tokenize, LoRA routes) is out of reach.
"""

from __future__ import annotations

from deploy import inventory
from deploy.inventory_records import Part
from deploy.k8s.pods import NAME_LABEL, Manifest, labels, manifest

IN_CLUSTER = (*inventory.SERVICES, *inventory.TASKS, *inventory.STORES)
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8")
OUTSIDE_PORTS = {"gateway": (443,), "monitor": (443, 587), "prepare-model": (443,)}
"""HTTPS, and mail for alerts."""
INGRESS_NAMESPACE = "ingress-nginx"
MONITORING_NAMESPACE = "monitoring"
NAMESPACE_LABEL = "kubernetes.io/metadata.name"


def default_deny() -> Manifest:
    """Nothing in, nothing out."""
    return _policy("default-deny", {}, {"policyTypes": ["Ingress", "Egress"]})


def dns() -> Manifest:
    """Everybody may ask for names."""
    to = [{"namespaceSelector": _namespace("kube-system"), "podSelector": _pods({"k8s-app": "kube-dns"})}]
    ports = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    return _policy("dns", {}, {"policyTypes": ["Egress"], "egress": [{"to": to, "ports": ports}]})


def policy(part: Part) -> Manifest:
    """Who may call a part, and whom it may call."""
    return _policy(
        part.name,
        labels(part.name),
        {"policyTypes": ["Ingress", "Egress"], "ingress": _ingress(part), "egress": _egress(part)},
    )


def from_namespace(name: str, part: Part, namespace: str) -> Manifest:
    """Another namespace's pods may call a part (KEDA's operator, say)."""
    rule = {"from": [{"namespaceSelector": _namespace(namespace)}], "ports": _ports(part)}
    return _policy(name, labels(part.name), {"policyTypes": ["Ingress"], "ingress": [rule]})


def to_addresses(name: str, parts: tuple[str, ...], ranges: tuple[str, ...], port: int) -> Manifest:
    """Some parts may call a port of addresses outside of the cluster: a managed store."""
    return _to(name, parts, [{"ipBlock": {"cidr": one}} for one in ranges], port)


def to_namespace(name: str, parts: tuple[str, ...], namespace: str, port: int) -> Manifest:
    """Some parts may call a port of another namespace's pods: a collector of traces."""
    return _to(name, parts, [{"namespaceSelector": _namespace(namespace)}], port)


def _to(name: str, parts: tuple[str, ...], receivers: list[Manifest], port: int) -> Manifest:
    rule = {"to": receivers, "ports": [{"protocol": "TCP", "port": port}]}
    made = _policy(name, {}, {"policyTypes": ["Egress"], "egress": [rule]})
    made["spec"]["podSelector"] = {
        "matchExpressions": [{"key": NAME_LABEL, "operator": "In", "values": [*parts]}]
    }
    return made


def _ingress(part: Part) -> list[Manifest]:
    names = {one.name for one in IN_CLUSTER}
    callers = [name for name in inventory.callers(part.name) if name in names]
    rules: list[Manifest] = []
    if callers:
        rules.append(
            {"from": [{"podSelector": _pods(labels(name))} for name in callers], "ports": _ports(part)}
        )
    others = [INGRESS_NAMESPACE] if part.published else []
    others += [MONITORING_NAMESPACE] if part.metrics else []
    if others:
        senders = [{"namespaceSelector": _namespace(name)} for name in others]
        rules.append({"from": senders, "ports": _ports(part)[:1]})
    return rules


def _egress(part: Part) -> list[Manifest]:
    names = {one.name for one in IN_CLUSTER}
    rules: list[Manifest] = [
        {"to": [{"podSelector": _pods(labels(name))}], "ports": _ports(inventory.PARTS[name])}
        for name in part.calls
        if name in names
    ]
    if part.outside:
        everywhere = {"cidr": "0.0.0.0/0", "except": [*PRIVATE]}
        ports = [{"protocol": "TCP", "port": port} for port in OUTSIDE_PORTS[part.name]]
        rules.append({"to": [{"ipBlock": everywhere}], "ports": ports})
    return rules


def _policy(name: str, selected: dict[str, str], spec: Manifest) -> Manifest:
    selector = {"podSelector": _pods(selected) if selected else {}}
    return manifest("networking.k8s.io/v1", "NetworkPolicy", name, spec=selector | spec)


def _ports(part: Part) -> list[Manifest]:
    return [{"protocol": "TCP", "port": port.number} for port in part.ports]


def _pods(selected: dict[str, str]) -> Manifest:
    return {"matchLabels": selected}


def _namespace(name: str) -> Manifest:
    return {"matchLabels": {NAMESPACE_LABEL: name}}
