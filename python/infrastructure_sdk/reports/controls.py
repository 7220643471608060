"""Which controls of published frameworks a check speaks to.

The catalogue of checks names NIST SP 800-53 (revision 5), CIS Kubernetes Benchmark and PCI DSS 4.0 controls. SOC 2
criteria and further PCI requirements follow from them by the tables here: this project's reading, no official mapping.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["FRAMEWORKS", "TITLES", "Control", "controls_of"]

FRAMEWORKS = {
    "nist-800-53": "NIST SP 800-53 revision 5",
    "cis": "CIS Kubernetes Benchmark",
    "soc2": "SOC 2 trust services criteria",
    "pci": "PCI DSS 4.0",
}

# Titles as published; of CIS, SOC 2 and PCI, whose texts are not free to copy, what they are about.
TITLES = {
    "nist-800-53": {
        "AC-3": "Access Enforcement",
        "AC-3(3)": "Mandatory Access Control",
        "AC-4": "Information Flow Enforcement",
        "AC-4(21)": "Physical or Logical Separation of Information Flows",
        "AC-6": "Least Privilege",
        "AC-6(10)": "Prohibit Non-privileged Users from Executing Privileged Functions",
        "AC-17": "Remote Access",
        "CA-8": "Penetration Testing",
        "CM-6": "Configuration Settings",
        "CM-7": "Least Functionality",
        "CM-14": "Signed Components",
        "IA-2": "Identification and Authentication (Organizational Users)",
        "IA-3": "Device Identification and Authentication",
        "IA-5": "Authenticator Management",
        "MP-6": "Media Sanitization",
        "RA-5": "Vulnerability Monitoring and Scanning",
        "SC-2": "Separation of System and User Functionality",
        "SC-3": "Security Function Isolation",
        "SC-3(1)": "Hardware Separation",
        "SC-4": "Information in Shared System Resources",
        "SC-5": "Denial-of-service Protection",
        "SC-6": "Resource Availability",
        "SC-7": "Boundary Protection",
        "SC-7(5)": "Deny by Default — Allow by Exception",
        "SC-7(10)": "Prevent Exfiltration",
        "SC-7(21)": "Isolation of System Components",
        "SC-8": "Transmission Confidentiality and Integrity",
        "SC-12": "Cryptographic Key Establishment and Management",
        "SC-23": "Session Authenticity",
        "SC-28": "Protection of Information at Rest",
        "SC-28(1)": "Cryptographic Protection",
        "SC-31": "Covert Channel Analysis",
        "SC-32": "System Partitioning",
        "SC-39": "Process Isolation",
        "SC-39(1)": "Hardware Separation",
        "SC-49": "Hardware-enforced Separation and Policy Enforcement",
        "SI-2": "Flaw Remediation",
        "SI-6": "Security and Privacy Function Verification",
        "SI-7": "Software, Firmware, and Information Integrity",
        "SI-10": "Information Input Validation",
        "SI-11": "Error Handling",
    },
    "cis": {
        "4.2.1": "kubelet: anonymous requests",
        "4.2.4": "kubelet: read-only port",
        "4.2.13": "kubelet: process limit of a pod",
        "5.1.5": "default service accounts",
        "5.1.6": "service account tokens only where needed",
        "5.2.1": "an active policy control mechanism",
        "5.2.2": "privileged containers",
        "5.2.3": "host process namespace",
        "5.2.4": "host IPC namespace",
        "5.2.5": "host network namespace",
        "5.2.6": "privilege escalation",
        "5.2.7": "root containers",
        "5.2.9": "added capabilities",
        "5.2.12": "host path volumes",
        "5.2.13": "host ports",
        "5.3.1": "a network plugin that enforces policies",
        "5.3.2": "network policies in every namespace",
        "5.7.2": "seccomp profile",
    },
    "soc2": {
        "A1.1": "capacity and demand",
        "CC6.1": "logical access to protected assets",
        "CC6.5": "disposal of data",
        "CC6.6": "boundary protection",
        "CC6.7": "transmission and movement of data",
        "CC6.8": "unauthorized or malicious software",
        "CC7.1": "vulnerabilities and configuration changes",
        "CC7.2": "monitoring of controls",
    },
    "pci": {
        "1.3": "network access to and from the protected environment",
        "11.4.6": "tests of segmentation (service providers)",
        "A1.1.1": "separation of provider and customer environments",
        "A1.1.2": "customers reach only their own data",
        "A1.1.3": "customers reach only resources allocated to them",
        "A1.1.4": "effectiveness of separation is confirmed by tests",
    },
}

_SOC2 = {
    "CC6.1": "AC-3 AC-6 AC-17 IA-2 IA-3 IA-5 SC-2 SC-3 SC-4 SC-12 SC-23 SC-28 SC-31 SC-32 SC-39 SC-49 SI-11",
    "CC6.5": "MP-6",
    "CC6.6": "AC-4 SC-7",
    "CC6.7": "SC-8",
    "CC6.8": "CM-7 CM-14 SI-7 SI-10",
    "CC7.1": "CM-6 RA-5 SI-2",
    "CC7.2": "CA-8 SI-6",
    "A1.1": "SC-5 SC-6",
}
_PCI = {"A1.1.1": "AC-6 SC-2 SC-39", "A1.1.2": "AC-3 AC-4 SC-4 SC-28", "A1.1.3": "SC-5 SC-6", "A1.1.4": "CA-8 SI-6"}


@dataclass(frozen=True, order=True)
class Control:
    """A control of a framework; prints as "SC-4", "CIS 5.3.2", "SOC 2 CC6.1", "PCI 1.3"."""

    framework: str
    id: str

    @property
    def title(self) -> str:
        """What it is about."""
        return TITLES[self.framework].get(self.id, "")

    def __str__(self) -> str:
        return {"nist-800-53": "", "cis": "CIS ", "soc2": "SOC 2 ", "pci": "PCI "}[self.framework] + self.id


def controls_of(text: str) -> list[Control]:
    """The controls that a check's `controls` names, and those that follow from them.

    >>> [str(control) for control in controls_of("SC-5; CIS 4.2.13")]
    ['SC-5', 'CIS 4.2.13', 'SOC 2 A1.1', 'PCI A1.1.3']
    """
    named = []
    for group in filter(None, (part.strip() for part in text.split(";"))):
        prefix, _, rest = group.partition(" ")
        framework = {"CIS": "cis", "PCI": "pci"}.get(prefix, "nist-800-53")
        for item in (rest if framework != "nist-800-53" else group).split(","):
            named += [Control(framework, name) for name in _spread(item.strip())]
    families = {control.id.partition("(")[0] for control in named if control.framework == "nist-800-53"}
    for framework, table in (("soc2", _SOC2), ("pci", _PCI)):
        for name, sources in table.items():
            if families & set(sources.split()):
                named.append(Control(framework, name))
    return list(dict.fromkeys(named))


def _spread(name: str) -> list[str]:
    """A range such as 5.2.2-5.2.4 as its members."""
    match = re.fullmatch(r"(\d+\.\d+\.)(\d+)-\1(\d+)", name)
    if not match:
        return [name]
    return [f"{match[1]}{number}" for number in range(int(match[2]), int(match[3]) + 1)]
