"""Reads one contact after another from HubSpot. HUBSPOT_ACCESS_TOKEN names the account."""

import os

import hubspot

import clients

CONTACTS = 1000


def client():
    return hubspot.HubSpot(access_token=os.environ["HUBSPOT_ACCESS_TOKEN"]).crm.contacts.basic_api


def call(contacts, number):
    contact = contacts.get_by_id(str((number - 1) % CONTACTS + 1), properties=["email", "firstname"])
    if "@" not in contact.properties["email"]:
        raise ValueError("a contact without an address")


clients.run(clients.arguments(__doc__, streams=False), client, call)
