# What stands around a route server: spokes, gateways, metrics, and what az asks of the subscription.
source "$(dirname "$0")/lib.sh"

group=neighboursRG
az group create -n $group -l eastus
az network vnet create -g $group -n hub --address-prefix 10.0.0.0/16 --subnet-name RouteServerSubnet --subnet-prefixes 10.0.1.0/26
az network vnet create -g $group -n spoke --address-prefix 10.7.0.0/16
az network public-ip create -g $group -n ip
subnet_id=$(az network vnet subnet show -g $group --vnet-name hub -n RouteServerSubnet --query id -o tsv)
az network routeserver create -g $group -n rs --hosted-subnet "$subnet_id" --public-ip-address ip
az network routeserver peering create -g $group --routeserver rs -n nva1 --peer-ip 10.0.0.4 --peer-asn 65001

az network vnet peering create -g $group -n to-spoke --vnet-name hub --remote-vnet spoke --allow-vnet-access --allow-gateway-transit
refused 1 AnotherPeeringAlreadyReferencesRemoteVnet az network vnet peering create -g $group -n again --vnet-name hub --remote-vnet spoke
az network vnet peering create -g $group -n to-hub --vnet-name spoke --remote-vnet hub --allow-vnet-access --use-remote-gateways
az network vnet peering sync -g $group -n to-hub --vnet-name spoke
is "Connected FullyInSync" "$(echo $(az network vnet peering show -g $group -n to-hub --vnet-name spoke --query '[peeringState, peeringSyncLevel]' -o tsv))"
spoke() { az network routeserver peering list-advertised-routes -g $group --routeserver rs -n nva1 --query "RouteServiceRole_IN_0[].network | sort(@) | join(' ', @)" -o tsv; }
eventually "10.0.0.0/16 10.7.0.0/16" spoke

hub_id=$(az network routeserver show -g $group -n rs --query id -o tsv)
status() { az monitor metrics list --resource "$hub_id" --metric BgpPeerStatus --filter "BgpPeerIp eq '*' and RouteServiceInstance eq '*'" --aggregation Maximum --interval PT1M --query "value[0].timeseries[].data[0].maximum" -o tsv; }
eventually $'1.0\n1.0' status
is 5 "$(az monitor metrics list-definitions --resource "$hub_id" --query 'length(@)' -o tsv)"

az network vnet subnet create -g $group --vnet-name hub -n GatewaySubnet --address-prefixes 10.0.255.0/27
az network public-ip create -g $group -n gateway-ip
az network vnet-gateway create -g $group -n gateway --vnet hub --public-ip-addresses gateway-ip --sku VpnGw1AZ --asn 65010
is "65010 10.0.255.4" "$(echo $(az network vnet-gateway show -g $group -n gateway --query 'bgpSettings.[asn, bgpPeeringAddress]' -o tsv))"
az network vnet-gateway list-bgp-peer-status -g $group -n gateway
az network vnet-gateway list-learned-routes -g $group -n gateway
az network vnet-gateway list-advertised-routes -g $group -n gateway --peer 10.0.1.4
az network local-gateway create -g $group -n site --gateway-ip-address 198.51.100.7 --local-address-prefixes 192.168.0.0/16
# az makes this one with a template.
az network vpn-connection create -g $group -n tunnel --vnet-gateway1 gateway --local-gateway2 site --shared-key s3cret
is IPsec "$(az network vpn-connection show -g $group -n tunnel --query connectionType -o tsv)"
refused 1 VirtualNetworkGatewayCannotBeDeleted az network vnet-gateway delete -g $group -n gateway

is Microsoft.Network/virtualHubs "$(az resource show --ids "$hub_id" --query type -o tsv)"
is 1 "$(az resource list -g $group --resource-type Microsoft.Network/virtualHubs --query 'length(@)' -o tsv)"
is Registered "$(az provider show -n Microsoft.Network --query registrationState -o tsv)"
az provider register -n Microsoft.Network
az account list-locations -o none
az group delete -n $group -y
