"""The route server's life through azure-mgmt-network, with its refusals."""

import os
import time

from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.identity import ClientSecretCredential
from azure.mgmt.network import NetworkManagementClient, models

ENDPOINT = os.environ["ENDPOINT"]
SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
GROUP = "pythonRG"
PATIENCE_SECS = 30


def client(secret):
    credential = ClientSecretCredential(
        os.environ["TENANT"], os.environ["CLIENT_ID"], secret, authority=ENDPOINT, disable_instance_discovery=True
    )
    scopes = [ENDPOINT + "/.default"]
    return NetworkManagementClient(credential, SUBSCRIPTION, base_url=ENDPOINT, credential_scopes=scopes, polling_interval=1)


def refused(code, call, *arguments, kind=HttpResponseError):
    try:
        result = call(*arguments)
        if hasattr(result, "result"):
            result.result()
    except kind as error:
        assert error.error.code == code, error
        return
    raise AssertionError(f"{arguments} was not refused")


def eventually(what, holds):
    end = time.monotonic() + PATIENCE_SECS
    while not holds():
        assert time.monotonic() < end, f"never: {what}"


def request(method, path, body=None):
    """Groups are another SDK's; the pipeline is the same."""
    from azure.core.rest import HttpRequest

    url = f"{ENDPOINT}/subscriptions/{SUBSCRIPTION}/{path}?api-version=2024-11-01"
    network._client._pipeline.run(HttpRequest(method, url, json=body))


network = client(os.environ["CLIENT_SECRET"])
request("PUT", f"resourceGroups/{GROUP}", {"location": "eastus"})

vnet = models.VirtualNetwork(location="eastus", address_space=models.AddressSpace(address_prefixes=["10.0.0.0/16"]))
network.virtual_networks.begin_create_or_update(GROUP, "vnet", vnet).result()
subnet = models.Subnet(address_prefix="10.0.1.0/26")
subnet = network.subnets.begin_create_or_update(GROUP, "vnet", "RouteServerSubnet", subnet).result()
sku = models.PublicIPAddressSku(name="Standard")
address = models.PublicIPAddress(location="eastus", sku=sku, public_ip_allocation_method="Static")
address = network.public_ip_addresses.begin_create_or_update(GROUP, "ip", address).result()
hub = network.virtual_hubs.begin_create_or_update(GROUP, "rs", models.VirtualHub(location="eastus", sku="Standard")).result()
assert hub.provisioning_state == "Succeeded" and hub.routing_state == "None", hub
peer = models.BgpConnection(peer_ip="10.0.0.4", peer_asn=65001)
peers = network.virtual_hub_bgp_connection
refused("HubBgpConnectionParentHubMustHaveProvisionedRoutingState", peers.begin_create_or_update, GROUP, "rs", "p", peer)
configuration = models.HubIpConfiguration(subnet=subnet, public_ip_address=address)
network.virtual_hub_ip_configuration.begin_create_or_update(GROUP, "rs", "ipConfig1", configuration).result()
hub = network.virtual_hubs.get(GROUP, "RS")
assert hub.virtual_router_asn == 65515 and sorted(hub.virtual_router_ips) == ["10.0.1.4", "10.0.1.5"], hub

reserved = models.BgpConnection(peer_ip="10.0.0.4", peer_asn=65515)
refused("InvalidPeerAsn", peers.begin_create_or_update, GROUP, "rs", "p", reserved)
peers.begin_create_or_update(GROUP, "rs", "nva1", peer).result()
connections = network.virtual_hub_bgp_connections


def learned():
    routes = connections.begin_list_learned_routes(GROUP, "rs", "nva1").result()
    routes = routes if isinstance(routes, dict) else dict(routes)
    return [[route["network"] for route in routes[f"RouteServiceRole_IN_{instance}"]] for instance in (0, 1)]


eventually("both instances learn the site", lambda: learned() == [["10.250.0.0/16"]] * 2)
assert [one.name for one in connections.list(GROUP, "rs")] == ["nva1"]
hub.allow_branch_to_branch_traffic = True
assert network.virtual_hubs.begin_create_or_update(GROUP, "rs", hub).result().allow_branch_to_branch_traffic
assert network.virtual_hubs.update_tags(GROUP, "rs", models.TagsObject(tags={"owner": "net"})).tags == {"owner": "net"}

refused("ResourceNotFound", network.virtual_hubs.get, GROUP, "none", kind=ResourceNotFoundError)
refused("PublicIPAddressCannotBeDeleted", network.public_ip_addresses.begin_delete, GROUP, "ip")
try:
    client("wrong").virtual_hubs.get(GROUP, "rs")
    raise AssertionError("a wrong secret signs in")
except ClientAuthenticationError as error:
    assert "AADSTS7000215" in str(error), error

peers.begin_delete(GROUP, "rs", "nva1").result()
network.virtual_hub_ip_configuration.begin_delete(GROUP, "rs", "ipConfig1").result()
network.virtual_hubs.begin_delete(GROUP, "rs").result()
request("DELETE", f"resourceGroups/{GROUP}")
