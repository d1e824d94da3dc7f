"""Who may talk to whom, by Kubernetes' rules for network policies: both ends must agree."""

from __future__ import annotations

from dataclasses import dataclass, field

from infra.cluster import Object, selects


@dataclass(frozen=True)
class End:
    """A pod as policies see it."""

    namespace: str
    labels: dict[str, str] = field(default_factory=dict)
    namespace_labels: dict[str, str] = field(default_factory=dict)

    @property
    def space(self) -> dict[str, str]:
        """The labels of its namespace, with the one that Kubernetes gives."""
        return {"kubernetes.io/metadata.name": self.namespace, **self.namespace_labels}


def may_talk(objects: list[Object], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Whether a connection is let out at one end and in at the other."""
    out = _lets(objects, source, target, "Egress", "egress", "to", port, protocol)
    return out and _lets(objects, target, source, "Ingress", "ingress", "from", port, protocol)


def _lets(
    objects: list[Object], own: End, other: End, kind: str, rules: str, peers: str, port: int, protocol: str
) -> bool:
    policies = [
        one["spec"]
        for one in objects
        if one["kind"] == "NetworkPolicy"
        and one["metadata"]["namespace"] == own.namespace
        and kind in one["spec"]["policyTypes"]
        and selects(one["spec"]["podSelector"], own.labels)
    ]
    # Without a policy for the direction, everything is allowed.
    return not policies or any(
        _has_port(rule, port, protocol) and _has_peer(rule.get(peers), own, other)
        for spec in policies
        for rule in spec.get(rules, [])
    )


def _has_port(rule: Object, port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    return not ports or any(one["port"] == port and one["protocol"] == protocol for one in ports)


def _has_peer(peers: list[Object] | None, own: End, other: End) -> bool:
    if not peers:
        return True
    for peer in peers:
        # Addresses are of what has no labels.
        if "ipBlock" in peer:
            continue
        spaces = peer.get("namespaceSelector")
        in_space = own.namespace == other.namespace if spaces is None else selects(spaces, other.space)
        if in_space and selects(peer.get("podSelector", {}), other.labels):
            return True
    return False
