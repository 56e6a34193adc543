"""Streams under a limit of tokens, while limiters restart and take over and a pod dies in the middle of its streams."""

import unittest

import product
from cluster import kubectl, until
from token_campaigns import STREAMS, TokenCampaign
from workloads import Job

ACCOUNT = "streams"
LIMITED = STREAMS._replace(calls=50)
# Limiters and a pod are killed.
DISTURBS_THE_INSTALLATION = True


class Streams(TokenCampaign):
    namespaces = ("tokens",)

    def test_no_token_is_over_and_no_other_stream_is_lost(self):
        # A stream lasts up to four seconds.
        self.declare(ACCOUNT, LIMITED, chunk_seconds=0.2)
        job = self.enrich("chat-streaming", ACCOUNT, LIMITED)
        dying = Job("tokens", "dying", "chat-streaming", ACCOUNT, 1, 1000, clients=4, quotas=ACCOUNT).start()
        self.after_calls(10, lambda: product.kill("limiter"))
        self.after_calls(22, lambda: self.delete_in_mid_stream(dying))
        self.after_calls(34, lambda: product.replace("limiter"))
        self.judge(job, LIMITED.calls)
        left = self.provider.summary(ACCOUNT)["ended"].get("hungUp", 0)
        self.assertGreater(left, 0, "the pod died in the middle of its streams")

    def after_calls(self, calls, strike):
        until(f"{calls} calls", lambda: self.provider.tried(ACCOUNT) >= calls)
        strike()

    def delete_in_mid_stream(self, job):
        """At once, as when its node is gone; nobody calls in its stead."""
        kubectl("delete", "pod", "--namespace", "tokens", "--selector", f"app={job.name}", "--grace-period=0", "--force")
        job.delete()


if __name__ == "__main__":
    unittest.main(verbosity=2)
