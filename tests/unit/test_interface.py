import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from validator_supervisor.bus import interface
from validator_supervisor.bus.interface import INTERFACES, Interface, Method, Property

PUBLISHED = Path(__file__).resolve().parents[2] / "units/dbus-1/interfaces"


@pytest.mark.parametrize("table", INTERFACES, ids=lambda table: table.name)
def test_published_xml_is_what_is_served(table: Interface) -> None:
    path = PUBLISHED / f"{table.name}.xml"
    assert path.read_text() == interface.published(table)


def test_nothing_else_is_published() -> None:
    assert sorted(path.stem for path in PUBLISHED.iterdir()) == sorted(t.name for t in INTERFACES)


def test_xml_says_what_the_table_says() -> None:
    table = Interface(
        "a.B",
        (Method("Do", (("what", "s"), ("fd", "h")), (("done", "b"),)), Method("Go")),
        (Property("P", "as"), Property("Q", "t", "false"), Property("R", "s", "const")),
    )
    root = ET.fromstring(interface.interface_xml(table))
    assert root.attrib == {"name": "a.B"}
    do, go = root.findall("method")
    assert [argument.attrib for argument in do] == [
        {"name": "what", "type": "s", "direction": "in"},
        {"name": "fd", "type": "h", "direction": "in"},
        {"name": "done", "type": "b", "direction": "out"},
    ]
    assert (go.attrib, len(go)) == ({"name": "Go"}, 0)
    found = {p.attrib["name"]: p for p in root.findall("property")}
    assert {p.attrib["access"] for p in found.values()} == {"read"}
    assert [p.attrib["type"] for p in found.values()] == ["as", "t", "s"]
    emits = {name: [note.attrib for note in p] for name, p in found.items()}
    assert emits == {
        "P": [],
        "Q": [{"name": interface.EMITS, "value": "false"}],
        "R": [{"name": interface.EMITS, "value": "const"}],
    }


def test_signatures_are_those_of_the_arguments() -> None:
    method = Method("Do", (("a", "s"), ("b", "a{sv}")), (("c", "o"), ("d", "u")))
    assert (method.signature, method.reply) == ("sa{sv}", "ou")


def test_every_object_has_the_standard_interfaces() -> None:
    root = ET.fromstring(interface.introspection(interface.OBJECT_MANAGER_XML, []))
    assert [item.attrib["name"] for item in root.findall("interface")] == [
        "org.freedesktop.DBus.Peer",
        "org.freedesktop.DBus.Introspectable",
        "org.freedesktop.DBus.Properties",
        "org.freedesktop.DBus.ObjectManager",
    ]


def test_a_secret_is_never_an_argument() -> None:
    arguments = [
        name for t in INTERFACES for m in t.methods for name, kind in m.takes if kind != "h"
    ]
    assert not {"passphrase", "password", "keystore", "secret", "key"} & set(arguments)


def test_the_manual_names_every_method_and_property() -> None:
    page = (PUBLISHED.parents[2] / "man/validator-supervisor.service.8.md").read_text()
    named = set(re.findall(r"`([A-Z][A-Za-z]+)`", page))
    for table in INTERFACES:
        members = {m.name for m in table.methods} | {p.name for p in table.properties}
        assert members - named == set(), table.name
