# Azure's refusals, as az tells them.
source "$(dirname "$0")/lib.sh"

group=refusalsRG
az group create -n $group -l eastus
az network vnet create -g $group -n vnet --address-prefix 10.0.0.0/16 --subnet-name RouteServerSubnet --subnet-prefixes 10.0.1.0/28
az network vnet subnet create -g $group --vnet-name vnet -n other --address-prefixes 10.0.2.0/24
az network public-ip create -g $group -n basic --sku Basic --allocation-method Dynamic
az network public-ip create -g $group -n ip
id() { az network vnet subnet show -g $group --vnet-name vnet -n "$1" --query id -o tsv; }
create() { az network routeserver create -g $group -n "$1" --hosted-subnet "$2" --public-ip-address "$3"; }
subnet=$(id RouteServerSubnet)
# What az made before the refusal it deletes in a thread that does not outlive it: whether that was in time is not said.
refuses() {
    refused 1 "$1" create rs "$2" "$3"
    az network routeserver delete -g $group -n rs -y >/dev/null 2>&1 || true
    eventually "" az network routeserver list -g $group --query "[].name" -o tsv
}

refuses NetcfgInvalidSubnet "$subnet" ip
az network vnet subnet update -g $group --vnet-name vnet -n RouteServerSubnet --address-prefixes 10.0.1.0/26
refuses InvalidRouteServerSubnetName "$(id other)" ip
refuses InvalidOperation "$subnet" basic
refuses InvalidResourceReference "$subnet" none
refused 1 NetcfgSubnetRangesOverlap az network vnet subnet create -g $group --vnet-name vnet -n more --address-prefixes 10.0.2.128/25
refused 1 NetcfgInvalidSubnet az network vnet subnet create -g $group --vnet-name vnet -n more --address-prefixes 10.1.0.0/24

create rs "$subnet" ip
peer() { az network routeserver peering create -g $group --routeserver rs -n "$1" --peer-ip "$2" --peer-asn "$3"; }
refused 1 InvalidPeerAsn peer p 10.0.0.4 65515
refused 1 InvalidPeerAsn peer p 10.0.0.4 23456
refused 1 InvalidPeerIp peer p 10.0.1.9 65001
refused 1 InvalidPeerIp peer p 192.0.2.1 65001
refused 3 ResourceNotFound az network routeserver peering show -g $group --routeserver rs -n none
refused 3 ParentResourceNotFound az network routeserver peering create -g $group --routeserver none -n p --peer-ip 10.0.0.4 --peer-asn 65001
refused 3 ResourceGroupNotFound az network routeserver show -g none -n rs
refused 1 InUseSubnetCannotBeDeleted az network vnet subnet delete -g $group --vnet-name vnet -n RouteServerSubnet
refused 1 InUseSubnetCannotBeDeleted az network vnet delete -g $group -n vnet
refused 1 PublicIPAddressCannotBeDeleted az network public-ip delete -g $group -n ip
az group delete -n $group -y
