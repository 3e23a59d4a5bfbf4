# The tutorial: two NVAs, one with a site behind it and one with the way out, a VM's effective routes, and each NVA hearing of the
# other once branch-to-branch is on.
source "$(dirname "$0")/lib.sh"

group=tutorialRG
az group create -n $group -l "East US"
az network vnet create -g $group -n vnet --address-prefix 10.0.0.0/16
az network vnet subnet create -g $group --vnet-name vnet -n RouteServerSubnet --address-prefixes 10.0.1.0/26
az network vnet subnet create -g $group --vnet-name vnet -n web --address-prefixes 10.0.2.0/24
az network public-ip create -g $group -n ip
subnet_id=$(az network vnet subnet show -g $group --vnet-name vnet -n RouteServerSubnet --query id -o tsv)
az network routeserver create -g $group -n rs --hosted-subnet "$subnet_id" --public-ip-address ip
az network routeserver peering create -g $group --routeserver rs -n sdwan --peer-ip 10.0.0.4 --peer-asn 65001
az network routeserver peering create -g $group --routeserver rs -n firewall --peer-ip 10.0.0.5 --peer-asn 65002
az network nic create -g $group -n vm1-nic --vnet-name vnet --subnet web

routes() { az network nic show-effective-route-table -g $group -n vm1-nic --query "sort_by(value, &addressPrefix[0])[?source=='VirtualNetworkGateway'].[addressPrefix[0], nextHopType, nextHopIpAddress[0]]" -o tsv; }
eventually $'0.0.0.0/0\tVirtualNetworkGateway\t10.0.0.5\n10.250.0.0/16\tVirtualNetworkGateway\t10.0.0.4' routes

# A user route wins over what was learned, and the subnet may refuse it all.
az network route-table create -g $group -n table
az network route-table route create -g $group --route-table-name table -n site --address-prefix 10.250.0.0/16 --next-hop-type VirtualAppliance --next-hop-ip-address 10.0.0.9
az network vnet subnet update -g $group --vnet-name vnet -n web --route-table table
of_user() { az network nic show-effective-route-table -g $group -n vm1-nic --query "value[?source=='User' && state=='Active'].nextHopIpAddress[0]" -o tsv; }
eventually 10.0.0.9 of_user
az network route-table update -g $group -n table --disable-bgp-route-propagation true
eventually "" routes

heard() { az network routeserver peering list-advertised-routes -g $group --routeserver rs -n firewall --query "RouteServiceRole_IN_0[?network=='10.250.0.0/16'].asPath" -o tsv; }
is "" "$(heard)"
az network routeserver update -g $group -n rs --allow-b2b-traffic true --hub-routing-preference ASPath
eventually 65515-65001 heard

# The network grows, and both NVAs hear of it.
az network vnet update -g $group -n vnet --address-prefixes 10.0.0.0/16 10.9.0.0/16
told() { az network routeserver peering list-advertised-routes -g $group --routeserver rs -n sdwan --query "RouteServiceRole_IN_1[?network=='10.9.0.0/16'] | length(@)" -o tsv; }
eventually 1 told
az group delete -n $group -y
