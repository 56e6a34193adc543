"""Ten kills of the active limiter, an API server that stands still, upgrades: none is over, no call is lost."""

import time
import unittest

import guest
import product
from limiter_changes import LEASE_SECONDS, Changes

# Minutes of kills and outages.
ONLY_WHEN_NAMED = True
DISTURBS_THE_INSTALLATION = True


@unittest.skipIf(guest.EXISTING, "the processes of its nodes can't be reached")
class ForLong(Changes):
    def test_ten_kills(self):
        self.begin("killed-often", 1500)
        for kill in range(10):
            self.changes(f"kill {kill + 1}", lambda pod: product.signal(pod, "KILL"))
        self.judge()

    def test_an_upgrade_hands_over(self):
        self.begin("upgraded-often", 1200)
        for number in range(3):
            more = ("--set", f"limiter.podAnnotations.round=r{number}")
            self.changes(f"upgrade {number + 1}", lambda pod, more=more: product.install(self.provider, *more), "Handover")
            self.standby_is_ready()
        self.judge()

    def test_the_api_server_stands_still(self):
        """For less than the Lease, and for longer: calls wait, and go on when it is back."""
        self.begin("without-api-server", 600)
        for seconds in (LEASE_SECONDS / 2, LEASE_SECONDS * 2):
            product.on_the_node("pkill -STOP kube-apiserver")
            try:
                time.sleep(seconds)
            finally:
                product.on_the_node("pkill -CONT kube-apiserver")
            self.goes_on()
        self.judge()


if __name__ == "__main__":
    unittest.main(verbosity=2)
