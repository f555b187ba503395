"""How many multiplications a convolution really has."""

import numpy as np


def meetings(
    size: int, kernel: int, out: int, stride: int, padding: int, input_dilation: int, kernel_dilation: int
) -> int:
    """Pairs of output position and kernel position along one axis that read an element of the input.

    Padding, and the holes of a dilated input, meet nothing: batched products that the compiler writes as convolutions,
    and gradients of strided ones, would otherwise count many times what they do.

    Args:
        size: elements of the input along the axis.
        kernel: elements of the kernel.
        out: elements of the output.
        stride: of the kernel over the dilated input.
        padding: zeros before the input; negative where it is cut.
        input_dilation, kernel_dilation: distance of neighbouring elements, 1 for none.
    """
    if kernel == 1 and padding == 0 and input_dilation == 1:
        return out
    outs = np.arange(out, dtype=np.int64) * stride - padding
    taps = np.arange(kernel, dtype=np.int64) * kernel_dilation
    few, many = (outs, taps) if out < kernel else (taps, outs)
    total = 0
    for offset in few:
        places = many + offset
        inside = (places >= 0) & (places <= (size - 1) * input_dilation)
        total += int(np.count_nonzero(inside & (places % input_dilation == 0)))
    return total
