"""The active limiter is evicted, killed, deleted and stands still while a Job calls: another goes on, none is over."""

import unittest

import guest
import product
from cluster import Failed
from limiter_changes import Changes

# Limiters are killed.
DISTURBS_THE_INSTALLATION = True


@unittest.skipIf(guest.EXISTING, "the processes of its nodes can't be reached")
class Follow(Changes):
    def test_one_limiter_follows_another_under_load(self):
        self.begin("followed", 700)
        self.changes("evicted", self.evict_but_one, "Handover")
        self.standby_is_ready()
        self.changes("killed", lambda pod: product.signal(pod, "KILL"))
        self.standby_is_ready()
        self.changes("deleted", self.delete, "Handover")
        self.standby_is_ready()
        self.changes("stopped for longer than its Lease", self.stand_still, "Takeover")
        self.judge()

    def evict_but_one(self, pod):
        """The budget keeps the other."""
        other = next(each for each in product.pods("limiter") if each["metadata"]["name"] != pod["metadata"]["name"])
        product.evict(pod)
        with self.assertRaisesRegex(Failed, "disruption budget"):
            product.evict(other)


if __name__ == "__main__":
    unittest.main(verbosity=2)
