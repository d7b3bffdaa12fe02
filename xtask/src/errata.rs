//! Finds code sequences that trip two errata of the Cortex-A53, in linked text.
//!
//! - **835769**: a 64-bit multiply-accumulate directly behind a memory access may compute a wrong result.
//! - **843419**: a load or store behind an `ADRP` in the last two words of a 4 KiB page may use a wrong address.
//!
//! The compiler works around the first (a `NOP` between the two), the linker around the second (it moves the last
//! access into a veneer). This scan proves that both did, for all code in the image: hand-written assembly and the
//! precompiled standard library pass by the compiler's work-around.
//!
//! Spec: Arm, Cortex-A53 MPCore Software Developers Errata Notice (ARM-EPM-048406), 835769 and 843419 sequence 1.
//! The conditions are those that LLVM's `AArch64A53Fix835769` pass and LLD's `AArch64ErrataFix` act on; like LLD and
//! GNU ld, 843419's sequence 2 is left out (compilers do not make it).

/// An erratum this module knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erratum {
    /// Multiply-accumulate behind a memory access.
    MultiplyAccumulate835769,
    /// `ADRP` at the end of a page.
    PageEndAdrp843419,
}

/// A sequence that trips an erratum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which one.
    pub erratum: Erratum,
    /// Address of the sequence's first instruction.
    pub address: u64,
}

/// Scans instruction words that are linked at `base`, in order of address.
///
/// The image moves by multiples of 2 MiB, so the offset in the page is the linked one.
pub fn scan(base: u64, words: &[u32]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, window) in words.windows(2).enumerate() {
        if is_memory_access(window[0]) && is_multiply_accumulate_64(window[1]) {
            let address = base + 4 * index as u64;
            findings.push(Finding {
                erratum: Erratum::MultiplyAccumulate835769,
                address,
            });
        }
    }
    for (index, rest) in words
        .iter()
        .enumerate()
        .map(|(index, _)| (index, &words[index..]))
    {
        let address = base + 4 * index as u64;
        if address & 0xfff >= 0xff8 && is_page_end_sequence(rest) {
            findings.push(Finding {
                erratum: Erratum::PageEndAdrp843419,
                address,
            });
        }
    }
    findings
}

/// `ADRP`, an access that leaves its register alone, optionally one instruction more, an access through the register.
fn is_page_end_sequence(words: &[u32]) -> bool {
    let [adrp, access, third, ..] = *words else {
        return false;
    };
    if adrp & 0x9f00_0000 != 0x9000_0000 {
        return false;
    }
    let page = destination(adrp);
    if !starts_843419(access) || writes_register(access, page) {
        return false;
    }
    let uses = |word: u32| is_access_unsigned_offset(word) && base_register(word) == page;
    // A third instruction that writes the register ends the danger, but the linker does not look: be as strict.
    uses(third) || (!is_branch(third) && words.get(3).copied().is_some_and(uses))
}

/// Any access to memory, prefetches included: the "loads and stores" group of the A64 encoding, `op0` = x1x0.
fn is_memory_access(word: u32) -> bool {
    word & 0x0a00_0000 == 0x0800_0000
}

/// `MADD`, `MSUB`, `SMADDL`, `SMSUBL`, `UMADDL`, `UMSUBL` with a 64-bit result and a real accumulator.
fn is_multiply_accumulate_64(word: u32) -> bool {
    const ZERO_REGISTER: u32 = 31;
    let three_source_64 = word & 0xff00_0000 == 0x9b00_0000;
    // op31: 000 MADD/MSUB, 001 SMADDL/SMSUBL, 101 UMADDL/UMSUBL; 010 and 110 (SMULH, UMULH) do not accumulate.
    let accumulates = matches!((word >> 21) & 7, 0b000 | 0b001 | 0b101);
    three_source_64 && accumulates && (word >> 10) & 31 != ZERO_REGISTER
}

/// The accesses that can be second in 843419: everything but load pairs and the multi-structure loads.
fn starts_843419(word: u32) -> bool {
    let exclusive = word & 0x3f00_0000 == 0x0800_0000;
    exclusive
        || is_load_literal(word)
        || is_single_access(word)
        || is_store_pair(word)
        || is_st1(word)
}

fn is_load_literal(word: u32) -> bool {
    word & 0x3b00_0000 == 0x1800_0000
}

/// One register, scaled or unscaled offset, pre- or post-indexed, unprivileged, register offset.
fn is_single_access(word: u32) -> bool {
    let unscaled_indexed_or_unprivileged = word & 0x3b20_0000 == 0x3800_0000;
    let register_offset = word & 0x3b20_0c00 == 0x3820_0800;
    unscaled_indexed_or_unprivileged || register_offset || is_access_unsigned_offset(word)
}

fn is_access_unsigned_offset(word: u32) -> bool {
    word & 0x3b00_0000 == 0x3900_0000
}

/// `STP` in its three forms and `STNP`, of integer or vector registers.
fn is_store_pair(word: u32) -> bool {
    word & 0x3a40_0000 == 0x2800_0000
}

/// `ST1` of one to four whole registers or of one lane, with or without write-back.
fn is_st1(word: u32) -> bool {
    let whole = (word & 0xbfff_0000 == 0x0c00_0000 || word & 0xbfe0_0000 == 0x0c80_0000)
        && matches!((word >> 12) & 15, 0b0010 | 0b0110 | 0b0111 | 0b1010);
    let lane = (word & 0xbfff_0000 == 0x0d00_0000 || word & 0xbfe0_0000 == 0x0d80_0000)
        && matches!((word >> 13) & 7, 0b000 | 0b010 | 0b100);
    whole || lane
}

/// Whether an access of [`starts_843419`] writes this general register: as a load's target or by write-back.
///
/// Vector targets count too, as in the linker: both then agree on what is left in place.
fn writes_register(word: u32, register: u32) -> bool {
    let single_load = is_single_access(word) && {
        let (size, vector, opc) = (word >> 30, (word >> 26) & 1, (word >> 22) & 3);
        let vector_store_128 = size == 0 && vector == 1 && opc == 2;
        let prefetch = size == 3 && vector == 0 && opc == 2;
        opc != 0 && !vector_store_128 && !prefetch
    };
    let load_exclusive = word & 0x3f40_0000 == 0x0840_0000;
    let loads = single_load || load_exclusive || is_load_literal(word);

    let single_indexed = word & 0x3b20_0400 == 0x3800_0400;
    let pair_indexed = is_store_pair(word) && word & 0x0080_0000 != 0;
    let st1_indexed = is_st1(word) && word & 0x0080_0000 != 0;
    let writes_back = single_indexed || pair_indexed || st1_indexed;

    (loads && destination(word) == register) || (writes_back && base_register(word) == register)
}

fn is_branch(word: u32) -> bool {
    let register = word & 0xfe00_0000 == 0xd600_0000;
    let conditional = word & 0xfe00_0000 == 0x5400_0000;
    let immediate = word & 0x7c00_0000 == 0x1400_0000;
    let compare_or_test = word & 0x7c00_0000 == 0x3400_0000;
    register || conditional || immediate || compare_or_test
}

fn destination(word: u32) -> u32 {
    word & 31
}

fn base_register(word: u32) -> u32 {
    (word >> 5) & 31
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOP: u32 = 0xd503_201f;
    const ADRP_X0: u32 = 0x9000_0000; // adrp x0, .
    const LDR_X1_X1: u32 = 0xf940_0021; // ldr x1, [x1]
    const LDR_X0_X0: u32 = 0xf940_0000; // ldr x0, [x0]
    const LDR_X2_X0_8: u32 = 0xf940_0402; // ldr x2, [x0, #8]
    const STR_X1_X2: u32 = 0xf900_0041; // str x1, [x2]
    const STP_X1_X2_X3: u32 = 0xa900_0861; // stp x1, x2, [x3]
    const STP_PRE_X1_X2_X0: u32 = 0xa9bf_0801; // stp x1, x2, [x0, #-16]!
    const LDP_X1_X2_X3: u32 = 0xa940_0861; // ldp x1, x2, [x3]
    const ST1_V0_X1: u32 = 0x4c00_7020; // st1 {v0.16b}, [x1]
    const LDR_W1_POST_X0: u32 = 0xb840_4401; // ldr w1, [x0], #4
    const B: u32 = 0x1400_0001; // b .+4
    const RET: u32 = 0xd65f_03c0;

    const MADD_X: u32 = 0x9b02_0c20; // madd x0, x1, x2, x3
    const MSUB_X: u32 = 0x9b02_8c20; // msub x0, x1, x2, x3
    const MUL_X: u32 = 0x9b02_7c20; // mul x0, x1, x2 (accumulator xzr)
    const MADD_W: u32 = 0x1b02_0c20; // madd w0, w1, w2, w3
    const SMADDL: u32 = 0x9b22_0c20; // smaddl x0, w1, w2, x3
    const UMADDL: u32 = 0x9ba2_0c20; // umaddl x0, w1, w2, x3
    const UMULH: u32 = 0x9bc2_7c20; // umulh x0, x1, x2
    const PRFM_X1: u32 = 0xf980_0020; // prfm pldl1keep, [x1]
    const LDADD: u32 = 0xf820_0041; // ldadd x0, x1, [x2]

    fn trips_835769(words: &[u32]) -> bool {
        scan(0x1000, words)
            .iter()
            .any(|finding| finding.erratum == Erratum::MultiplyAccumulate835769)
    }

    fn trips_843419(offset: u64, words: &[u32]) -> bool {
        scan(0x2000 + offset, words)
            .iter()
            .any(|finding| finding.erratum == Erratum::PageEndAdrp843419)
    }

    #[test]
    fn multiply_accumulate_behind_an_access_is_found() {
        for access in [
            LDR_X1_X1,
            STR_X1_X2,
            STP_X1_X2_X3,
            LDP_X1_X2_X3,
            ST1_V0_X1,
            PRFM_X1,
            LDR_W1_POST_X0,
            LDADD,
        ] {
            for multiply in [MADD_X, MSUB_X, SMADDL, UMADDL] {
                assert!(
                    trips_835769(&[NOP, access, multiply]),
                    "{access:#x} {multiply:#x}"
                );
            }
        }
        let found = scan(0x1000, &[NOP, LDR_X1_X1, MADD_X]);
        assert_eq!(
            found,
            [Finding {
                erratum: Erratum::MultiplyAccumulate835769,
                address: 0x1004
            }]
        );
    }

    #[test]
    fn multiplications_without_accumulator_or_with_distance_are_fine() {
        for multiply in [MUL_X, MADD_W, UMULH] {
            assert!(!trips_835769(&[LDR_X1_X1, multiply]), "{multiply:#x}");
        }
        assert!(!trips_835769(&[LDR_X1_X1, NOP, MADD_X]));
        assert!(!trips_835769(&[MADD_X, LDR_X1_X1]));
        assert!(!trips_835769(&[ADRP_X0, MADD_X]));
    }

    #[test]
    fn adrp_at_the_end_of_a_page_is_found() {
        for offset in [0xff8, 0xffc] {
            for access in [LDR_X1_X1, STR_X1_X2, STP_X1_X2_X3, ST1_V0_X1, PRFM_X1] {
                assert!(
                    trips_843419(offset, &[ADRP_X0, access, LDR_X0_X0, RET]),
                    "{access:#x}"
                );
                assert!(
                    trips_843419(offset, &[ADRP_X0, access, NOP, LDR_X2_X0_8, RET]),
                    "{access:#x}"
                );
            }
        }
        let found = scan(0x2ff8, &[ADRP_X0, LDR_X1_X1, LDR_X0_X0]);
        assert_eq!(
            found,
            [Finding {
                erratum: Erratum::PageEndAdrp843419,
                address: 0x2ff8
            }]
        );
    }

    #[test]
    fn adrp_elsewhere_in_the_page_is_fine() {
        for offset in [0, 0x800, 0xff0, 0xff4] {
            assert!(
                !trips_843419(offset, &[ADRP_X0, LDR_X1_X1, LDR_X0_X0]),
                "{offset:#x}"
            );
        }
    }

    #[test]
    fn sequences_that_lack_one_condition_are_fine() {
        let at_end = |words: &[u32]| trips_843419(0xffc, words);
        assert!(
            !at_end(&[ADRP_X0, NOP, LDR_X0_X0]),
            "no access in second place"
        );
        assert!(
            !at_end(&[ADRP_X0, LDP_X1_X2_X3, LDR_X0_X0]),
            "a load pair does not count"
        );
        assert!(
            !at_end(&[ADRP_X0, LDR_X0_X0, LDR_X0_X0]),
            "the register is overwritten"
        );
        assert!(
            !at_end(&[ADRP_X0, STP_PRE_X1_X2_X0, LDR_X0_X0]),
            "the register is written back"
        );
        assert!(
            !at_end(&[ADRP_X0, LDR_W1_POST_X0, LDR_X0_X0]),
            "the register is written back"
        );
        assert!(
            !at_end(&[ADRP_X0, LDR_X1_X1, LDR_X1_X1, LDR_X1_X1]),
            "another base register"
        );
        assert!(
            !at_end(&[ADRP_X0, LDR_X1_X1, B, LDR_X0_X0]),
            "a branch in third place, as the linker leaves it"
        );
        assert!(!at_end(&[ADRP_X0, LDR_X1_X1]), "the text ends");
        assert!(!at_end(&[]));
    }
}
