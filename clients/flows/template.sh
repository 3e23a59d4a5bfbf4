# A template with comments, as the quickstart for templates has it: validated, deployed, read back; one that fails leaves nothing.
source "$(dirname "$0")/lib.sh"

group=templateRG
az group create -n $group -l eastus
template="$HOME/template.json"
cat >"$template" <<'T'
{
  // Comments are allowed in templates.
  "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
  "contentVersion": "1.0.0.0",
  "parameters": { "peerAsn": { "type": "string", "defaultValue": "65001" } },
  "variables": { "hub": "[concat('rs-', uniqueString(resourceGroup().id))]" },
  "resources": [
    { "type": "Microsoft.Network/virtualNetworks", "apiVersion": "2023-05-01", "name": "vnet", "location": "[resourceGroup().location]",
      "properties": { "addressSpace": { "addressPrefixes": ["10.0.0.0/16"] },
        "subnets": [{ "name": "RouteServerSubnet", "properties": { "addressPrefix": "10.0.1.0/26" } }] } },
    { "type": "Microsoft.Network/publicIPAddresses", "apiVersion": "2023-05-01", "name": "ip", "location": "[resourceGroup().location]",
      "sku": { "name": "Standard" }, "properties": { "publicIPAllocationMethod": "Static" } },
    { "type": "Microsoft.Network/virtualHubs", "apiVersion": "2023-05-01", "name": "[variables('hub')]",
      "location": "[resourceGroup().location]", "properties": { "sku": "Standard" } },
    { "type": "Microsoft.Network/virtualHubs/ipConfigurations", "apiVersion": "2023-05-01", "name": "[concat(variables('hub'), '/ipconfig1')]",
      "dependsOn": ["[variables('hub')]", "vnet", "ip"],
      "properties": {
        "subnet": { "id": "[resourceId('Microsoft.Network/virtualNetworks/subnets', 'vnet', 'RouteServerSubnet')]" },
        "publicIPAddress": { "id": "[resourceId('Microsoft.Network/publicIPAddresses', 'ip')]" } } },
    { "type": "Microsoft.Network/virtualHubs/bgpConnections", "apiVersion": "2023-05-01", "name": "[concat(variables('hub'), '/nva1')]",
      "dependsOn": ["ipconfig1", "[resourceId('Microsoft.Network/virtualHubs/ipConfigurations', variables('hub'), 'ipconfig1')]"],
      "properties": { "peerIp": "10.0.0.4", "peerAsn": "[parameters('peerAsn')]" } }
  ],
  "outputs": { "ips": { "type": "array", "value": "[reference(resourceId('Microsoft.Network/virtualHubs', variables('hub'))).virtualRouterIps]" } }
}
T
# A name alone must name a resource of the template.
refused 1 InvalidTemplate az deployment group create -g $group -n first --template-file "$template"
sed -i 's/"ipconfig1", //' "$template"
refused 1 InvalidPeerAsn az deployment group create -g $group -n first --template-file "$template" --parameters peerAsn=65515
is 0 "$(az resource list -g $group --query 'length(@)' -o tsv)"
ips=$(az deployment group create -g $group -n first --template-file "$template" --query "properties.outputs.ips.value | join(' ', @)" -o tsv)
is "10.0.1.4 10.0.1.5" "$ips"
is 5 "$(az deployment operation group list -g $group -n first --query 'length(@)' -o tsv)"
is Succeeded "$(az deployment group show -g $group -n first --query properties.provisioningState -o tsv)"
hub=$(az network routeserver list -g $group --query '[0].name' -o tsv)
connected() { az network routeserver peering show -g $group --routeserver "$hub" -n nva1 --query connectionState -o tsv; }
eventually Connected connected
az group delete -n $group -y
