"""Our own API against its OpenAPI document: every report with something in it, then what schemathesis makes up."""

import os
import sys
import time

import requests
import schemathesis
from schemathesis.cli import schemathesis as command_line

ENDPOINT = os.environ["ENDPOINT"]
SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000001"
GROUP = f"{SUBSCRIPTION}/resourceGroups/openapiRG"
NETWORK = f"{GROUP}/providers/Microsoft.Network"
HUB = f"{NETWORK}/virtualHubs/rs"
PEER = f"{HUB}/bgpConnections/nva1"
NIC = f"{NETWORK}/networkInterfaces/vm1-nic"
OWN = "/routewright/v1"
PATIENCE_SECS = 30
# For each operation, in each phase: half a minute in all.
EXAMPLES = "10"

# What one may ask for in a query is there, so that most questions are answered and not refused; ids have slashes, which few
# generated texts do.
CONFIGURATION = f"""
suppress-health-check = ["filter_too_much"]

[parameters]
"query.routeServer" = "{HUB}"
"query.nic" = "{NIC}"

# Its body is writes of ARM, which no schema tells well-formed from refused.
[[operations]]
include-path = "/routewright/v1/dry-run"
checks.positive_data_acceptance.enabled = false

# It takes away whom all the other requests ask: for a moment there is no instance, and they are rightly told so.
[[operations]]
include-path = "/routewright/v1/instances/{{index}}/restart"
enabled = false
"""


def token():
    form = {
        "grant_type": "client_credentials",
        "client_id": os.environ["OWNER_ID"],
        "client_secret": os.environ["OWNER_SECRET"],
        "scope": f"{ENDPOINT}/.default",
    }
    answer = requests.post(f"{ENDPOINT}/{os.environ['TENANT']}/oauth2/v2.0/token", data=form)
    answer.raise_for_status()
    return answer.json()["access_token"]


def put(path, body):
    answer = session.put(f"{ENDPOINT}{path}?api-version=2024-05-01", json=body)
    assert answer.ok, (path, answer.text)


def make_route_server():
    here = {"location": "eastus"}
    put(GROUP, here)
    space = {"addressPrefixes": ["10.0.0.0/16"]}
    subnets = [("RouteServerSubnet", "10.0.1.0/26"), ("web", "10.0.2.0/24")]
    subnets = [{"name": name, "properties": {"addressPrefix": prefix}} for name, prefix in subnets]
    put(f"{NETWORK}/virtualNetworks/vnet", {**here, "properties": {"addressSpace": space, "subnets": subnets}})
    static = {"publicIPAllocationMethod": "Static"}
    put(f"{NETWORK}/publicIPAddresses/ip", {**here, "sku": {"name": "Standard"}, "properties": static})
    put(HUB, {**here, "properties": {"sku": "Standard"}})
    subnet = {"id": f"{NETWORK}/virtualNetworks/vnet/subnets/RouteServerSubnet"}
    address = {"id": f"{NETWORK}/publicIPAddresses/ip"}
    put(f"{HUB}/ipConfigurations/Default", {"properties": {"subnet": subnet, "publicIPAddress": address}})
    put(PEER, {"properties": {"peerIp": "10.0.0.4", "peerAsn": 65001}})
    configuration = {"subnet": {"id": f"{NETWORK}/virtualNetworks/vnet/subnets/web"}}
    put(NIC, {**here, "properties": {"ipConfigurations": [{"name": "ip", "properties": configuration}]}})


def told(operation, path, **query):
    """What an operation tells of something that is there; it must be as the document says."""
    answer = session.get(f"{ENDPOINT}{OWN}/{path}", params=query)
    assert answer.status_code == 200, (path, answer.text)
    schema[f"{OWN}/{operation}"]["GET"].validate_response(answer)
    return answer.json()


@schemathesis.hook
def before_call(context, case, kwargs):
    """The service principals that there were are needed: to ask with, and by other flows. Others are made up."""
    if case.path_parameters and case.path_parameters.get("clientId") in needed:
        case.path_parameters["clientId"] = "00000000-0000-0000-0000-000000000000"


def make_up_requests():
    with open("schemathesis.toml", "w") as configuration:
        configuration.write(CONFIGURATION)
    arguments = ["--config-file", "schemathesis.toml", "--no-color", "run", document, "--max-examples", EXAMPLES]
    arguments += ["--seed", "1", "--header", f"Authorization: {session.headers['Authorization']}"]
    try:
        return command_line(arguments)
    except SystemExit as ended:
        return ended.code


os.chdir(os.environ["HOME"])
session = requests.Session()
session.headers["Authorization"] = f"Bearer {token()}"
document = f"{ENDPOINT}{OWN}/openapi.json"
schema = schemathesis.openapi.from_url(document, headers=dict(session.headers))
make_route_server()

end = time.monotonic() + PATIENCE_SECS
while len(told("routes", "routes", routeServer=HUB)["value"]) < 2:
    assert time.monotonic() < end, "both instances never learn the site"
for operation, path, query in [
    ("health", "health", {}),
    ("sign-in", "sign-in", {}),
    ("service-principals", "service-principals", {}),
    ("peers", "peers", {"routeServer": HUB}),
    ("peers/{bgpConnectionId}", f"peers{PEER}", {}),
    ("peers/{bgpConnectionId}/routes", f"peers{PEER}/routes", {}),
    ("peers/{bgpConnectionId}/advertised", f"peers{PEER}/advertised", {}),
    ("routes", "routes", {"routeServer": HUB, "prefix": "10.250.0.0/16"}),
    ("effective-routes", "effective-routes", {"nic": NIC}),
]:
    assert told(operation, path, **query).get("value", ["one"]), f"nothing to tell of {path}"
told("agents", "agents")
told("{resourceId}/settings", f"{HUB[1:]}/settings")

needed = {principal["clientId"] for principal in told("service-principals", "service-principals")["value"]}
failed = make_up_requests()
# Also shows that the token still opens: without it everything would have been refused, which is as the document says, too.
answer = session.delete(f"{ENDPOINT}{GROUP}?api-version=2024-05-01")
assert answer.ok, answer.text
sys.exit(failed)
