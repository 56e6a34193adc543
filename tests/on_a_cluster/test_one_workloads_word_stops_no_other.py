"""Two workloads share a quota. A long pause that the provider tells one of them, which may have brought it about itself,
holds the other only when it has heard it too, and never if it is another account's. Counted by the provider, which knows
each by its token."""

import unittest

import product
from cluster import events, until
from provider import organization
from story import Story
from workloads import Job

AMOUNT, SECONDS, CALLS = 30, 3, 200
# A daily limit: the longest wait that OpenAI tells.
DAILY = "Rate limit reached for gpt-4o-mini on requests per day (RPD): Limit 10000. Please try again in 1h."
ERROR = {"error": {"message": DAILY, "type": "requests", "code": "rate_limit_exceeded"}}
USED_UP = {"status": 429, "retryAfter": "3600", "body": ERROR, "requests": 1000}


class TwoWorkloads(Story):
    namespaces = ("two",)

    def quota(self, name, accounts, more=""):
        product.patient(name, "openai", "requests", AMOUNT, SECONDS)
        product.quota("two", name, name, "only", more=more)
        for account in accounts:
            self.provider.limit(account, "tried", AMOUNT, SECONDS)

    def refused_for_an_hour(self, account):
        self.provider.ask("/force", {"account": account, **USED_UP})

    def job(self, name, quota, calls=4):
        return Job("two", name, "openai", name, 1, calls, clients=1, quotas=quota).start()

    def test_who_has_not_heard_it_goes_on(self):
        self.quota("claimed", ("honest", "forger"))
        honest = self.job("honest", "claimed", CALLS)
        until("the honest one calls", lambda: self.provider.tried("honest") > 3)
        self.refused_for_an_hour("forger")
        forger = self.job("forger", "claimed")
        said = "of workload two/Job/forger"
        message = lambda: product.condition("two", "claimed", "Throttled")["message"]
        until(f"the status says {said}", lambda: said in message())
        paused = lambda: [row for row in events("two", "apiquota/claimed") if " ProviderPaused " in row and said in row]
        until(f"an Event says {said}", paused)
        self.assertEqual((forger.wait(), honest.wait()), ("Failed", "Complete"))
        self.assertEqual(self.provider.tried("forger"), 1, "it obeys what it was told")
        totals = self.provider.totals("honest")
        self.assertEqual((totals["ok"], sum(totals.values())), (CALLS, CALLS), totals)

    def test_what_two_have_heard_binds_all(self):
        names = ("first", "second", "third")
        self.quota("confirmed", names)
        for name in names:
            self.refused_for_an_hour(name)
        for name in names:
            self.assertEqual(self.job(name, "confirmed").wait(), "Failed")
        self.assertEqual([self.provider.tried(name) for name in names], [1, 1, 0])

    def test_another_accounts_answers_stop_nobody(self):
        self.quota("owned", ("own", "foreign"), f"  account: {{organization: {organization('own')}}}\n")
        self.refused_for_an_hour("foreign")
        own = self.job("own", "owned", CALLS)
        until("the owner calls", lambda: self.provider.tried("own") > 3)
        foreign = self.job("foreign", "owned")
        told = lambda: [row for row in events("two", "job/foreign") if " AnotherOrganization " in row]
        until("an Event tells its Job", told)
        self.assertEqual((foreign.wait(), own.wait()), ("Failed", "Complete"))
        paused = [row for row in events("two", "apiquota/owned") if " ProviderPaused " in row]
        self.assertEqual(paused, [])
        totals = self.provider.totals("own")
        self.assertEqual((totals["ok"], sum(totals.values())), (CALLS, CALLS), totals)


if __name__ == "__main__":
    unittest.main(verbosity=2)
