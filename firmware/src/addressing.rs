//! Address configuration of one interface: static, DHCP, link-local, SLAAC, mDNS.
