//! What no source settles about the switch and its PHYs, one named setting per question.
//!
//! The first reading of each is the default: the likeliest. A driver is right only if it works under all of them.

use crate::doubts::{Doubt, Doubts};

macro_rules! doubts {
    ($( $name:literal, $field:ident: $Kind:ident, $question:literal { $( $reading:literal => $Variant:ident, $meaning:literal; )+ } )+) => {
        $(
            #[doc = $question]
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub(crate) enum $Kind { $( #[doc = $meaning] $Variant, )+ }

            impl $Kind {
                const ALL: &'static [Self] = &[$( Self::$Variant ),+];
                const DOUBT: Doubt = Doubt { name: $name, readings: &[$( $reading ),+], about: $question };

                fn chosen(doubts: &Doubts) -> Self {
                    const DOUBT: &Doubt = &$Kind::DOUBT;
                    let at = DOUBT.readings.iter().position(|reading| doubts.is(DOUBT, reading));
                    Self::ALL[at.unwrap_or(0)]
                }
            }
        )+

        /// Every doubt of the switch and its PHYs, in the order of the data path.
        pub static DOUBTS: &[&Doubt] = &[$( &$Kind::DOUBT ),+];

        /// The readings in force, looked up once instead of by name for every frame.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct Readings { $( pub(crate) $field: $Kind, )+ }

        impl Readings {
            pub(crate) fn of(doubts: &Doubts) -> Self {
                Self { $( $field: $Kind::chosen(doubts), )+ }
            }
        }

        impl Default for Readings {
            fn default() -> Self {
                Self::of(&Doubts::default())
            }
        }
    };
}

doubts! {
    "switch-strap-port-state", strap_port_state: StrapPortState,
    "Port state after power-up or reset, before any software." {
        "forwarding" => Forwarding, "Strapped without a CPU: every port forwards and floods.";
        "disabled" => Disabled, "Strapped with a CPU attached: ports wait to be enabled.";
    }
    "switch-strap-phy-power", strap_phy_power: StrapPhyPower,
    "Whether the strapped PHYs start powered down (U-Boot writes 0x1140 to each, which other boot loaders may not)." {
        "down" => Down, "BMCR bit 11 is set after a hardware reset.";
        "up" => Up, "BMCR reads 0x1140 after a hardware reset.";
    }
    "switch-reset-keeps", reset_keeps: ResetKeeps,
    "What a software reset (global 1, register 4, bit 15) leaves alone." {
        "phys" => Phys, "Port registers, VTU, ATU and counters return to strap state; PHYs keep theirs.";
        "phys-and-registers" => PhysAndRegisters, "Only tables, counters and queues are cleared.";
        "nothing" => Nothing, "PHYs are reset as well and negotiate again.";
    }
    "switch-busy-times", busy_times: BusyTimes,
    "How long busy bits stay set: no source says; drivers allow 50 ms and more." {
        "short" => Short, "Over before the next access on the bus.";
        "long" => Long, "0.1 ms for an indirect access, 1 ms for tables and PHYs.";
    }
    "switch-g1-problem-bits", g1_problem_bits: G1ProblemBits,
    "What clears the ATU and VTU problem bits of the global status." {
        "until-serviced" => UntilServiced, "They stay while a violation waits for its get-and-clear operation.";
        "read-clears" => ReadClears, "Reading the status clears them like the done bits.";
    }
    "switch-port0-unforced-link", port0_unforced_link: Port0UnforcedLink,
    "Link of port 0 when it is not forced (U-Boot does not force it)." {
        "up" => Up, "An RGMII port without a PHY counts as linked at its set speed.";
        "down" => Down, "No PHY, no link: the force bits are needed.";
    }
    "switch-cmode-internal-phy", cmode_internal_phy: CmodeInternalPhy,
    "The C-mode ports 1 to 4 report." {
        "15" => Internal, "0xf, as 88E6352 dumps show.";
        "0" => Zero, "0: no media interface to speak of.";
    }
    "switch-max-untagged", max_untagged: MaxUntagged,
    "Longest frame without a tag when the limit is 1522 bytes." {
        "1522" => Same, "The limit looks at the length only.";
        "1518" => FourLess, "The four bytes are granted for a tag alone.";
    }
    "switch-limit-counts-dsa-tag", limit_counts_dsa_tag: LimitCountsDsaTag,
    "Whether a DSA tag counts against the frame limit." {
        "yes" => Yes, "The limit applies to the bytes on the wire.";
        "no" => No, "The tag is taken off first.";
    }
    "switch-dsa-mode-without-tag", dsa_without_tag: DsaWithoutTag,
    "A frame from the CPU whose bytes after the source address make no sense as a tag, frame mode DSA." {
        "as-tag" => AsTag, "The four bytes are taken as a tag whatever they are.";
        "ordinary" => Ordinary, "Anything but FROM_CPU and FORWARD is an ordinary frame.";
    }
    "switch-edsa-mode-without-tag", edsa_without_tag: EdsaWithoutTag,
    "A frame from the CPU without the EtherType, frame mode EtherType DSA." {
        "ordinary" => Ordinary, "It is switched like a frame of a user port.";
        "discard" => Discard, "It is dropped.";
    }
    "switch-edsa-egress-mode", edsa_egress: EdsaEgress,
    "Which frames get a tag in frame mode EtherType DSA with another egress mode than 3." {
        "control-only" => ControlOnly, "Only trapped and mirrored ones.";
        "every-frame" => EveryFrame, "All of them.";
    }
    "switch-from-cpu-disabled-port", from_cpu_disabled: FromCpuDisabled,
    "A FROM_CPU frame for a port whose state is disabled." {
        "passes" => Passes, "The command overrides the port state.";
        "drops" => Drops, "A disabled port sends nothing.";
    }
    "switch-fid-of-8021q-off-port", fid_of_off_port: FidOfOffPort,
    "Database of a frame from a port with 802.1Q off: Linux since 5bded8259ee3 reaches a bridge's by way of the default VID and the VTU alone; the same text, and the manual as quoted on netdev in 2022, say the port's." {
        "vtu" => Vtu, "That of its VID if the VTU knows it.";
        "port" => Port, "The port's default FID.";
    }
    "switch-map-da-off", map_da_off: MapDaOff,
    "Where frames go from a port that does not map by destination." {
        "flood-bits" => FloodBits, "Like unknown addresses: only out of ports that flood.";
        "vlan-map" => VlanMap, "Out of every port of the VLAN map.";
    }
    "switch-vtu-needs-valid-sid", vtu_needs_sid: VtuNeedsSid,
    "Loading a VLAN whose SID has no valid STU entry: FreeBSD never loads one, a 88E6176 was seen to refuse." {
        "accepts" => Accepts, "The entry loads; the port's own state decides.";
        "refuses" => Refuses, "The entry does not become valid.";
    }
    "switch-stu-state", stu_state: StuState,
    "A port state other than 0 in the spanning tree table, next to the port's own (0 leaves it to the port)." {
        "overrides" => Overrides, "It replaces the port's own state, unless that is disabled.";
        "restricts" => Restricts, "The lower of the two counts.";
    }
    "switch-priority-tag-vid", priority_tag_vid: PriorityTagVid,
    "VID in the DSA tag of a frame that came with an 802.1Q tag of VID 0." {
        "default" => Default, "The port's default VID.";
        "zero" => Zero, "The 0 it came with.";
    }
    "switch-pads-short-egress", short_egress: ShortEgress,
    "A frame that is shorter than 64 bytes once its tag is off." {
        "pads" => Pads, "The MAC pads it.";
        "sends-short" => SendsShort, "It leaves undersized.";
    }
    "phy-temperature", phy_temperature: PhyTemperature,
    "Where the die temperature is read (two entries of one driver differ)." {
        "register-27" => Register27, "Page 6 register 27, offset 25 degrees.";
        "register-28" => Register28, "Page 6 register 28, offset 75 degrees.";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reading_that_can_be_chosen_reaches_the_blocks() {
        let default = Readings::of(&Doubts::default());
        for doubt in DOUBTS {
            for reading in doubt.readings {
                let mut doubts = Doubts::default();
                doubts.set(doubt.name, reading).unwrap();
                let changed = Readings::of(&doubts) != default;
                assert_eq!(
                    changed,
                    *reading != doubt.default_reading(),
                    "{} {reading}",
                    doubt.name
                );
            }
        }
    }
}
