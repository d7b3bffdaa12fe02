//! Parses the kernel command line from the devicetree.
