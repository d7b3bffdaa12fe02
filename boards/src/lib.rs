//! What a devicetree cannot say: quirks keyed by `compatible`.
#![no_std]
