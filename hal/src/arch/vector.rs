//! The begin of a frame in vectors, to compare it with a pattern and to copy it.

use core::arch::aarch64::{
    uint8x16_t, vandq_u8, veorq_u8, vld1q_u8, vmaxvq_u32, vorrq_u8, vreinterpretq_u32_u8, vst1q_u8,
};

/// The first sixty bytes; the last vector is the last sixteen of them. There are no loops, lest they stay ones.
#[derive(Clone, Copy, Debug)]
pub struct Head([uint8x16_t; 4]);

impl Head {
    /// Loads them.
    #[inline(always)] // as are the others: half of what a captured frame may cost
    pub fn load(bytes: &[u8; 60]) -> Self {
        // SAFETY: the image is for cores with the vector unit; each load is of 16 bytes, up to byte 60 at most.
        let vector = |at: usize| unsafe { vld1q_u8(bytes.as_ptr().add(at)) };
        Head([vector(0), vector(16), vector(32), vector(44)])
    }

    /// Stores them.
    #[inline(always)]
    pub fn store(self, bytes: &mut [u8; 60]) {
        let [first, second, third, last] = self.0;
        // SAFETY: as above.
        let mut put = |at: usize, vector| unsafe { vst1q_u8(bytes.as_mut_ptr().add(at), vector) };
        put(0, first);
        put(16, second);
        put(32, third);
        put(44, last);
    }

    /// Whether they are equal to `value`, which has zeros where `mask` has.
    #[inline(always)]
    pub fn equals(self, mask: &[[u8; 16]; 4], value: &[[u8; 16]; 4]) -> bool {
        let differ = |n: usize| {
            // SAFETY: the loads are of 16 bytes.
            unsafe {
                let masked = vandq_u8(self.0[n], vld1q_u8(mask[n].as_ptr()));
                veorq_u8(masked, vld1q_u8(value[n].as_ptr()))
            }
        };
        let (first, second, third, last) = (differ(0), differ(1), differ(2), differ(3));
        // SAFETY: the vector unit is there.
        unsafe {
            let any = vorrq_u8(vorrq_u8(first, second), vorrq_u8(third, last));
            vmaxvq_u32(vreinterpretq_u32_u8(any)) == 0
        }
    }
}
