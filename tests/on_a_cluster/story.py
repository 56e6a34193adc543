"""What every story begins with and ends with."""

import unittest

import product
from provider import Provider
from workloads import namespace


class Story(unittest.TestCase):
    """The provider plays, Quotakeeper is installed, the story's namespaces are there."""

    namespaces = ()

    @classmethod
    def setUpClass(cls):
        cls.provider = Provider()
        product.install(cls.provider)
        for name in cls.namespaces:
            namespace(name, cls.provider)

    @classmethod
    def tearDownClass(cls):
        product.nothing_is_forbidden()

    def limit_hubspot(self, namespace, name, amount, seconds):
        """A quota of so many calls in so many seconds, and the same limit at the provider, which counts it too."""
        product.patient(name, "hubspot", "ten-seconds", amount, seconds)
        product.quota(namespace, name, name, "only")
        self.provider.limit(name, "tried", amount, seconds)
