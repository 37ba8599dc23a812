"""Interfaces as tables: introspection, dispatch and change signals follow from them."""

from dataclasses import dataclass

from validator_supervisor.bus import names


@dataclass(frozen=True)
class Method:
    """A method; ``takes`` and ``gives`` are (name, signature) of each argument."""

    name: str
    takes: tuple[tuple[str, str], ...] = ()
    gives: tuple[tuple[str, str], ...] = ()

    @property
    def signature(self) -> str:
        """Return the signature of the arguments."""
        return "".join(signature for _, signature in self.takes)

    @property
    def reply(self) -> str:
        """Return the signature of the reply."""
        return "".join(signature for _, signature in self.gives)


@dataclass(frozen=True)
class Property:
    """A read-only property; ``emits``: ``true``, or ``false`` for what changes all the time."""

    name: str
    signature: str
    emits: str = "true"


@dataclass(frozen=True)
class Interface:
    """One interface of ours."""

    name: str
    methods: tuple[Method, ...]
    properties: tuple[Property, ...]

    def method(self, name: str) -> Method | None:
        """Return the method of that name."""
        return next((m for m in self.methods if m.name == name), None)


MANAGER = Interface(
    names.MANAGER,
    (Method("UnlockFd", (("passphrase", "h"),)), Method("Lock"), Method("Reload")),
    (
        Property("Version", "s", "const"),
        Property("Locked", "b"),
        Property("UnlockProblem", "s"),
        Property("Healthy", "b"),
        Property("ApplyProblem", "s"),
    ),
)
VALIDATOR = Interface(
    names.VALIDATOR,
    (
        Method("Start", gives=(("accepted", "b"),)),
        Method("Stop", gives=(("accepted", "b"),)),
        Method("Restart"),
        Method("SetEnabled", (("enabled", "b"),)),
        Method("Prefer", (("node", "s"),)),
        Method("SetRelease", (("client", "s"), ("version", "s"), ("sha256", "s"))),
        Method("Resume"),
        Method("Backup", gives=(("unit", "s"),)),
    ),
    (
        Property("Name", "s", "const"),
        Property("Kind", "s"),
        Property("Network", "s"),
        Property("Enabled", "b"),
        Property("ActiveState", "s"),
        Property("SubState", "s"),
        Property("StatusText", "s"),
        Property("StartProblem", "s"),
        Property("SilentUntil", "t"),
        Property("HaltReason", "s"),
        Property("SinceUSec", "t"),
        Property("ConnectedNode", "s"),
        Property("PreferredNode", "s"),
        Property("Overridden", "as"),
        Property("Release", "s"),
        Property("WantedRelease", "s"),
        Property("ReleaseState", "s"),
        Property("ReleaseStatus", "s"),
        Property("PublicKeys", "as"),
        Property("Restarts", "u"),
        Property("LastExitStatus", "i"),
        Property("AttestedEpoch", "t"),
        Property("AttestingKeys", "u"),
        Property("NextProposalUSec", "t"),
        Property("SyncCommitteeUntilUSec", "t"),
        Property("DutiesKnownUntilUSec", "t"),
        Property("BackupState", "s"),
        Property("BackupEndedUSec", "t"),
        Property("BackupProblem", "s"),
        Property("LastBackupUSec", "t"),
        Property("LastCleanBackupUSec", "t"),
    ),
)
NODE = Interface(
    names.NODE,
    (Method("Reconnect"),),
    (
        Property("Name", "s", "const"),
        Property("Host", "s"),
        Property("TunnelState", "s"),
        Property("StatusText", "s"),
        Property("TunnelSinceUSec", "t"),
        Property("BeaconHealthy", "b"),
        Property("BeaconProblem", "s"),
        Property("BeaconLatencyUSec", "t", "false"),
        Property("BeaconPeers", "u", "false"),
        Property("TakesBackups", "b"),
        Property("LastUploadUSec", "t"),
        Property("UploadProblem", "s"),
        Property("LastProvenRestoreUSec", "t"),
        Property("RestoreProblem", "s"),
    ),
)
INTERFACES = (MANAGER, VALIDATOR, NODE)

EMITS = "org.freedesktop.DBus.Property.EmitsChangedSignal"

STANDARD_XML = """\
  <interface name="org.freedesktop.DBus.Peer">
    <method name="Ping"/>
    <method name="GetMachineId">
      <arg name="machine_uuid" type="s" direction="out"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Introspectable">
    <method name="Introspect">
      <arg name="xml_data" type="s" direction="out"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Properties">
    <method name="Get">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="out"/>
    </method>
    <method name="GetAll">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="properties" type="a{sv}" direction="out"/>
    </method>
    <method name="Set">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="in"/>
    </method>
    <signal name="PropertiesChanged">
      <arg name="interface_name" type="s"/>
      <arg name="changed_properties" type="a{sv}"/>
      <arg name="invalidated_properties" type="as"/>
    </signal>
  </interface>
"""
OBJECT_MANAGER_XML = """\
  <interface name="org.freedesktop.DBus.ObjectManager">
    <method name="GetManagedObjects">
      <arg name="objects" type="a{oa{sa{sv}}}" direction="out"/>
    </method>
    <signal name="InterfacesAdded">
      <arg name="object" type="o"/>
      <arg name="interfaces" type="a{sa{sv}}"/>
    </signal>
    <signal name="InterfacesRemoved">
      <arg name="object" type="o"/>
      <arg name="interfaces" type="as"/>
    </signal>
  </interface>
"""
DOCTYPE = """\
<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">
"""


def interface_xml(interface: Interface) -> str:
    """Return the introspection of one of our interfaces."""
    lines = [f'  <interface name="{interface.name}">']
    for method in interface.methods:
        arguments = [(*a, "in") for a in method.takes] + [(*a, "out") for a in method.gives]
        end = "" if arguments else "/"
        lines.append(f'    <method name="{method.name}"{end}>')
        lines += [
            f'      <arg name="{name}" type="{kind}" direction="{way}"/>'
            for name, kind, way in arguments
        ]
        if arguments:
            lines.append("    </method>")
    for prop in interface.properties:
        head = f'    <property name="{prop.name}" type="{prop.signature}"'
        if prop.emits == "true":  # the default of the specification
            lines.append(f'{head} access="read"/>')
            continue
        lines.append(f'{head} access="read">')
        lines.append(f'      <annotation name="{EMITS}" value="{prop.emits}"/>')
        lines.append("    </property>")
    return "\n".join([*lines, "  </interface>\n"])


def introspection(own: str, children: list[str]) -> str:
    """Return the introspection of an object: its interfaces' XML and its children's names."""
    nodes = "".join(f'  <node name="{child}"/>\n' for child in children)
    return f"{DOCTYPE}<node>\n{STANDARD_XML}{own}{nodes}</node>\n"


def published(interface: Interface) -> str:
    """Return what is installed in /usr/share/dbus-1/interfaces."""
    return f"{DOCTYPE}<node>\n{interface_xml(interface)}</node>\n"
