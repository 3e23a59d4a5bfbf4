//! The virtual network: from Loc-RIB, topology and user routes to the effective routes of each NIC (az §2.7, §2.10, §5).
