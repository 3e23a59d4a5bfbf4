# The quickstart of Azure's documentation, "Create and configure Azure Route Server with Azure CLI", command for command.
source "$(dirname "$0")/lib.sh"

az group create --name myRouteServerRG --location eastus
az network vnet create --resource-group myRouteServerRG --location eastus --name myVirtualNetwork --address-prefix 10.0.0.0/16
az network vnet subnet create --resource-group myRouteServerRG --vnet-name myVirtualNetwork --name RouteServerSubnet --address-prefix 10.0.1.0/26
subnet_id=$(az network vnet subnet show --name RouteServerSubnet --resource-group myRouteServerRG --vnet-name myVirtualNetwork --query id -o tsv)
az network public-ip create --resource-group myRouteServerRG --name RouteServerIP --sku Standard --version IPv4
az network routeserver create --name myRouteServer --resource-group myRouteServerRG --hosted-subnet "$subnet_id" --public-ip-address RouteServerIP
az network routeserver peering create --name NVA1 --peer-ip 10.0.0.4 --peer-asn 65001 --routeserver myRouteServer --resource-group myRouteServerRG

# "Get the route server's ASN and IP addresses."
shown=$(az network routeserver show --resource-group myRouteServerRG --name myRouteServer --query "[virtualRouterAsn, join(' ', virtualRouterIps), routingState]" -o tsv)
is "65515 10.0.1.4 10.0.1.5 Provisioned" "$(echo $shown)"

# Routes of the real NVA, from both instances.
learned() { az network routeserver peering list-learned-routes --name NVA1 --routeserver myRouteServer --resource-group myRouteServerRG --query "[RouteServiceRole_IN_0, RouteServiceRole_IN_1][].[localAddress, network, nextHop, asPath]" -o tsv; }
eventually $'10.0.1.4\t10.250.0.0/16\t10.0.0.4\t65001\n10.0.1.5\t10.250.0.0/16\t10.0.0.4\t65001' learned
advertised() { az network routeserver peering list-advertised-routes --name NVA1 --routeserver myRouteServer --resource-group myRouteServerRG --query "RouteServiceRole_IN_0[].[network, nextHop, asPath]" -o tsv; }
eventually $'10.0.0.0/16\t10.0.1.4\t65515' advertised
is Connected "$(az network routeserver peering show --name NVA1 --routeserver myRouteServer --resource-group myRouteServerRG --query connectionState -o tsv)"

# "Configure route exchange", "Delete".
az network routeserver update --name myRouteServer --resource-group myRouteServerRG --allow-b2b-traffic true
is true "$(az network routeserver show --name myRouteServer --resource-group myRouteServerRG --query allowBranchToBranchTraffic -o tsv)"
is NVA1 "$(az network routeserver peering list --routeserver myRouteServer --resource-group myRouteServerRG --query '[].name' -o tsv)"
az network routeserver peering delete --name NVA1 --routeserver myRouteServer --resource-group myRouteServerRG --yes
az network routeserver delete --name myRouteServer --resource-group myRouteServerRG --yes
refused 3 ResourceNotFound az network routeserver show --name myRouteServer --resource-group myRouteServerRG
az group delete --name myRouteServerRG --yes
is false "$(az group exists --name myRouteServerRG)"
