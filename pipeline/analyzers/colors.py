"""YUV to RGB exactly as FFmpeg's swscale does it by default, as integer coefficients.

swscale's unscaled yuv420p to rgb24 takes the nearest chroma sample (each of the two by two pixels
that share one gets the same) and adds fixed-point products, each rounded down on its own:

    luma   = ((8 * Y - y_offset) * y) >> 16
    R      = luma + ((8 * (V - 128) * v_red) >> 16)
    G      = luma + ((8 * (U - 128) * u_green) >> 16) + ((8 * (V - 128) * v_green) >> 16)
    B      = luma + ((8 * (U - 128) * u_blue) >> 16)          all clipped to 0..255

The sums of floors lie half a level (red, blue) and one level (green) below the exact value on
average, which is why no float formula agrees with it. Source: FFmpeg libswscale, `yuv2rgb.c`
(`ff_yuv2rgb_c_init_tables`, `ff_yuv2rgb_coeffs`) and `x86/yuv_2_rgb.asm`. On processors other
than x86 FFmpeg rounds differently, by a level or two.
"""

from __future__ import annotations

from dataclasses import dataclass

# Cr to R, Cb to B, Cb to G and Cr to G, in 1/65536, for chroma of limited range.
_BT601 = (104597, 132201, -25675, -53279)
_BT709 = (117489, 138438, -13975, -34925)


@dataclass(frozen=True)
class YuvCoefficients:
    """Factors in 1/8192, which 8 times the sample and a shift by 16 bring to whole levels."""

    y: int
    y_offset: int
    v_red: int
    u_green: int
    v_green: int
    u_blue: int


def yuv_coefficients(*, bt709: bool, full_range: bool) -> YuvCoefficients:
    """The coefficients that swscale derives for a matrix and a range."""
    v_red, u_blue, u_green, v_green = (
        # Towards zero, as C divides.
        int(factor * 224 / 255) if full_range else factor
        for factor in (_BT709 if bt709 else _BT601)
    )
    luma = 1 << 16 if full_range else (1 << 16) * 255 // 219
    return YuvCoefficients(
        y=_in_8192ths(luma),
        y_offset=0 if full_range else 16 * 8,
        v_red=_in_8192ths(v_red),
        u_green=_in_8192ths(u_green),
        v_green=_in_8192ths(v_green),
        u_blue=_in_8192ths(u_blue),
    )


def _in_8192ths(factor: int) -> int:
    return ((factor << 13) + (1 << 15)) >> 16
