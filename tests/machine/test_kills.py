"""The campaign of kills: whatever of ours is killed, in whatever order, everything comes back."""

import random

import pytest
from lab.world import World

KILLS = 200
UNITS = (
    "validator@foo.service",
    "validator-tunnel@helsinki.service",
    "validator-supervisor.service",
    "validator-watch.service",
)
ANNOUNCED = [
    r"Main process exited|Failed with result|Failed to start|Killing process",
    r"systemd\[1\]: validator-tunnel@helsinki",
    r" tunnel\[\d+\]: .*(remote forward|refuses|mux|Connection|Could not)",
    r"http://127\.0\.0\.1:13000",
]


@pytest.mark.long
def test_everything_comes_back(world: World) -> None:
    host = world.host
    world.node("helsinki", beacon={"dev": "127.0.0.1:9596"})
    world.validator("foo", kind="command", command=["/usr/bin/sleep", "infinity"])
    world.apply()
    world.authorize("helsinki")
    host.systemctl("start", "validator.target")
    for unit in UNITS:
        host.wait_for_unit(unit)
    chance = random.Random(2335)  # the same order in every run
    for _ in range(KILLS):
        unit = chance.choice(UNITS)
        host.run("systemctl", "kill", "--signal=KILL", unit, check=False)
        host.run("sleep", f"{chance.random() / 2:.2f}")
    for unit in UNITS:
        host.wait_for_unit(unit, seconds=40)
    assert int(host.property(UNITS[0], "NRestarts")) > KILLS / 10
    assert world.status()["validators"]
