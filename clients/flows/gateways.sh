# Gateways: a VPN gateway with a site, an ExpressRoute gateway with a circuit, and what they say of their sessions. Nobody is at these
# addresses here, so the sessions are told and not Connected.
source "$(dirname "$0")/lib.sh"

group=gatewaysRG
az group create -n $group -l eastus
az network vnet create -g $group -n vnet --address-prefix 10.7.0.0/16
az network vnet subnet create -g $group --vnet-name vnet -n RouteServerSubnet --address-prefixes 10.7.1.0/26
az network vnet subnet create -g $group --vnet-name vnet -n GatewaySubnet --address-prefixes 10.7.3.0/27
for ip in rs-ip gw-ip0 gw-ip1 er-ip; do
    az network public-ip create -g $group -n $ip --sku Standard
done
subnet_id=$(az network vnet subnet show -g $group --vnet-name vnet -n RouteServerSubnet --query id -o tsv)
az network routeserver create -g $group -n rs --hosted-subnet "$subnet_id" --public-ip-address rs-ip

# A VPN gateway of two instances and a site that speaks BGP.
az network vnet-gateway create -g $group -n gw --vnet vnet --public-ip-addresses gw-ip0 gw-ip1 --gateway-type Vpn --vpn-type RouteBased --sku VpnGw2AZ --asn 65515
az network local-gateway create -g $group -n site --gateway-ip-address 198.51.100.7 --local-address-prefixes 192.168.0.0/16 --asn 65010 --bgp-peering-address 192.168.255.1
az network vpn-connection create -g $group -n tunnel --vnet-gateway1 gw --local-gateway2 site --shared-key abc123 --enable-bgp
peers=$(az network vnet-gateway list-bgp-peer-status -g $group -n gw --query "value[?localAddress=='10.7.3.4'].[neighbor, asn]" -o tsv)
is $'10.7.1.4\t65515\n10.7.1.5\t65515\n10.7.3.4\t65515\n192.168.255.1\t65010' "$peers"
own=$(az network vnet-gateway list-learned-routes -g $group -n gw --query "value[?origin=='Network' && localAddress=='10.7.3.5'].network | sort(@)" -o tsv)
is "10.7.0.0/16" "$(echo "$own" | grep -v 192.168.0.0/16)"
is 0 "$(az network vnet-gateway list-advertised-routes -g $group -n gw --peer 10.7.1.4 --query "length(value)" -o tsv)"
status=$(az network vpn-connection show -g $group -n tunnel --query connectionStatus -o tsv)
[ "$status" != Connected ] || is "not Connected" "$status"

# A circuit, its private peering, and the connection to it.
az network express-route create -g $group -n circuit --bandwidth 50 --peering-location Amsterdam --provider Contoso --sku-family MeteredData --sku-tier Standard
az network express-route peering create -g $group --circuit-name circuit --peering-type AzurePrivatePeering --peer-asn 65020 --vlan-id 100 --primary-peer-subnet 172.16.0.0/30 --secondary-peer-subnet 172.16.0.4/30
is 12076 "$(az network express-route show -g $group -n circuit --query "peerings[0].azureASN" -o tsv)"
az network vnet-gateway create -g $group -n er --vnet vnet --public-ip-addresses er-ip --gateway-type ExpressRoute --sku ErGw1AZ
az network vpn-connection create -g $group -n link --vnet-gateway1 er --express-route-circuit2 circuit
peers=$(az network vnet-gateway list-bgp-peer-status -g $group -n er --query "value[?localAddress=='10.7.3.7' && asn==\`12076\`].neighbor" -o tsv)
is $'172.16.0.2\n172.16.0.6' "$peers"

# What contradicts itself is refused, and branch-to-branch and the preference are changed while all this is there.
refused 1 InvalidPeerAsn az network local-gateway create -g $group -n wrong --gateway-ip-address 198.51.100.8 --asn 65515 --bgp-peering-address 192.168.255.2
refused 1 FarEndInVirtualNetwork az network local-gateway update -g $group -n site --local-address-prefixes 10.7.9.0/24
az network routeserver update -g $group -n rs --allow-b2b-traffic true --hub-routing-preference VpnGateway
is "true VpnGateway" "$(echo $(az network routeserver show -g $group -n rs --query "[allowBranchToBranchTraffic, hubRoutingPreference]" -o tsv))"
az group delete -n $group -y
is false "$(az group exists -n $group)"
