//! Reads the flattened devicetree.
