"""The same keys on two hosts, and a copy of a host's disk: see test_state.py."""

from lab.machine import Machine
from lab.signing import LATCH, NAME, VALIDATOR, Signing


class TestTwoHosts:
    """The same keys on two hosts."""

    def test_restored_moved_and_back(self, signing: Signing, host: Machine) -> None:
        """README's disaster, and then the dead host comes back."""
        signing.signs()
        with signing.another("second") as second:
            second.host.run("validator-supervisor", "backup", "restore", NAME, "--from", "helsinki")
            # The first still runs: its claim is on the node.
            second.ask()
            second.host.wait("a latch", second.latch)
            assert second.latch() == "moved"
            host.cut()
            second.take_over()
            second.signs()
            second.is_safe()
            host.boot_again()
            host.write("/etc/hosts", signing.world.network.hosts())
            signing.unlock()
            host.wait("a latch", signing.latch, 60)
            assert signing.latch() == "moved"
            second.stop()
            signing.take_over()
            signing.signs()
            signing.is_safe()
            # And the other way round, with nothing said to it.
            second.ask()
            second.host.wait("a latch", second.latch, 60)
            assert second.latch() == "moved"

    def test_two_restored_from_one_archive(self, signing: Signing, host: Machine) -> None:
        # Not the validator by its name: an unlock would not start it again.
        host.systemctl("stop", "validator.target")
        signing.down()
        with signing.another("third") as third, signing.another("fourth") as fourth:
            for one in (third, fourth):
                one.host.run(
                    "validator-supervisor", "backup", "restore", NAME, "--from", "helsinki"
                )
            third.take_over()
            fourth.ask()
            fourth.host.wait("a latch", fourth.latch, 60)
            assert fourth.latch() == "moved"
            third.signs()
            third.is_safe()
            third.stop()
        host.systemctl("start", "--no-block", "validator.target")
        signing.unlock()
        host.wait("a latch", signing.latch, 60)
        assert signing.latch() == "moved"
        signing.take_over()

    def test_a_copy_of_the_disk(self, signing: Signing, host: Machine) -> None:
        signing.cut()
        host.wait_for_unit(VALIDATOR, seconds=90)
        signing.signs()
        host.cut()
        with signing.copied("twin") as twin:
            host.boot_again()
            host.write("/etc/hosts", signing.world.network.hosts())
            signing.unlock()
            host.wait_for_unit(VALIDATOR, seconds=90)
            # It has a boot that the copy does not know.
            twin.host.systemctl("start", "--no-block", "validator.target")
            twin.unlock()
            twin.host.wait("a latch", twin.latch, 60)
            assert twin.latch() == "moved"
            assert "a copy of this host" in twin.host.output("cat", LATCH)
            signing.signs()
