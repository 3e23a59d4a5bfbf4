// The route server's life through @azure/arm-network, with its refusals.

import assert from "node:assert/strict";
import { NetworkManagementClient } from "@azure/arm-network";
import { ClientSecretCredential } from "@azure/identity";

const { ENDPOINT, TENANT, CLIENT_ID, CLIENT_SECRET } = process.env;
const subscription = "00000000-0000-0000-0000-000000000001";
const group = "javascriptRG";
const PATIENCE_MS = 30_000;
const fast = { updateIntervalInMs: 100 };

const credential = (secret) =>
  new ClientSecretCredential(TENANT, CLIENT_ID, secret, { authorityHost: ENDPOINT, disableInstanceDiscovery: true });
const network = new NetworkManagementClient(credential(CLIENT_SECRET), subscription, { endpoint: ENDPOINT });

const refused = (code, call) => assert.rejects(async () => await call(), (error) => error.code === code || assert.fail(`${error}`));

// Groups are another SDK's.
async function groupRequest(method, body) {
  const token = await credential(CLIENT_SECRET).getToken(`${ENDPOINT}/.default`);
  const url = `${ENDPOINT}/subscriptions/${subscription}/resourceGroups/${group}?api-version=2024-11-01`;
  const headers = { Authorization: `Bearer ${token.token}`, "Content-Type": "application/json" };
  const answer = await fetch(url, { method, headers, body: body && JSON.stringify(body) });
  assert.ok(answer.ok, `${method}: ${answer.status}`);
}

async function eventually(what, holds) {
  for (const end = Date.now() + PATIENCE_MS; !(await holds()); ) assert.ok(Date.now() < end, `never: ${what}`);
}

await groupRequest("PUT", { location: "eastus" });
const location = "eastus";
await network.virtualNetworks.beginCreateOrUpdateAndWait(group, "vnet", { location, addressSpace: { addressPrefixes: ["10.0.0.0/16"] } }, fast);
const subnet = await network.subnets.beginCreateOrUpdateAndWait(group, "vnet", "RouteServerSubnet", { addressPrefix: "10.0.1.0/26" }, fast);
const ip = { location, sku: { name: "Standard" }, publicIPAllocationMethod: "Static" };
const address = await network.publicIPAddresses.beginCreateOrUpdateAndWait(group, "ip", ip, fast);
await network.virtualHubs.beginCreateOrUpdateAndWait(group, "rs", { location, sku: "Standard" }, fast);
const configuration = { subnet: { id: subnet.id }, publicIPAddress: { id: address.id } };
await network.virtualHubIpConfiguration.beginCreateOrUpdateAndWait(group, "rs", "ipconfig1", configuration, fast);
const hub = await network.virtualHubs.get(group, "rs");
assert.equal(hub.virtualRouterAsn, 65515);
assert.deepEqual(hub.virtualRouterIps, ["10.0.1.4", "10.0.1.5"]);

const peers = network.virtualHubBgpConnection;
await refused("InvalidPeerAsn", () => peers.beginCreateOrUpdateAndWait(group, "rs", "p", { peerIp: "10.0.0.4", peerAsn: 65515 }, fast));
await peers.beginCreateOrUpdateAndWait(group, "rs", "nva1", { peerIp: "10.0.0.4", peerAsn: 65001 }, fast);
await eventually("the peer is connected", async () => (await peers.get(group, "rs", "nva1")).connectionState === "Connected");
await eventually("the site is learned", async () => {
  const routes = await network.virtualHubBgpConnections.beginListLearnedRoutesAndWait(group, "rs", "nva1", fast);
  return JSON.stringify(routes).includes("10.250.0.0/16");
});
const names = [];
for await (const peer of network.virtualHubBgpConnections.list(group, "rs")) names.push(peer.name);
assert.deepEqual(names, ["nva1"]);
const updated = await network.virtualHubs.beginCreateOrUpdateAndWait(group, "rs", { ...hub, allowBranchToBranchTraffic: true }, fast);
assert.equal(updated.allowBranchToBranchTraffic, true);

await refused("ResourceNotFound", () => network.virtualHubs.get(group, "none"));
await refused("InUseSubnetCannotBeDeleted", () => network.virtualNetworks.beginDeleteAndWait(group, "vnet", fast));
const stranger = new NetworkManagementClient(credential("wrong"), subscription, { endpoint: ENDPOINT });
await assert.rejects(() => stranger.virtualHubs.get(group, "rs"), /AADSTS7000215/);

await peers.beginDeleteAndWait(group, "rs", "nva1", fast);
await network.virtualHubIpConfiguration.beginDeleteAndWait(group, "rs", "ipconfig1", fast);
await network.virtualHubs.beginDeleteAndWait(group, "rs", fast);
await groupRequest("DELETE");
