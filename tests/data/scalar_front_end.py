"""The integer front end once more, one number at a time as a C program would: every value is checked to fit its C type."""

from tinykit.data.audio.tables import tables


def i32(value):
    """The value, which must fit int32."""
    assert -(1 << 31) <= value < 1 << 31
    return value


def i64(value):
    """The value, which must fit int64."""
    assert -(1 << 63) <= value < 1 << 63
    return value


def shift(value, left):
    return i64(value << left) if left >= 0 else (i64(value + (1 << (-left - 1)))) >> -left


def turn(re, im, c, s):
    half = 1 << 29
    return i32(i64(re * c + im * s + half) >> 30), i32(i64(im * c - re * s + half) >> 30)


def log2(value, table):
    bits = value.bit_length()
    lead = value >> (bits - 32) if bits > 32 else value << (32 - bits)
    index, place = (lead >> 25) & 63, (lead >> 9) & 0xFFFF
    low, high = int(table.log2[index]), int(table.log2[index + 1])
    return i32((bits - 1 << 15) + low + ((high - low) * place + (1 << 15) >> 16))


def square_root(power):
    s = 0
    while power >> 2 * s >= 1 << 32:
        s += 1
    rest, result, bit = power >> 2 * s, 0, 1 << 30
    while bit:
        if rest >= result + bit:
            rest -= result + bit
            result = (result >> 1) + bit
        else:
            result >>= 1
        bit >>= 2
    return result << s


def transform(data, fft, sine):
    """In place on the list of fft numbers: pairs (even, odd) are complex numbers."""
    half, bits = fft // 2, fft.bit_length() - 2

    def angle(k):  # cos and sin of 2 pi k / fft, k below fft / 2
        quarter = fft // 4
        return (int(sine[quarter - k]), int(sine[k])) if k <= quarter else (-int(sine[k - quarter]), int(sine[half - k]))

    for k in range(half):
        other = int(format(k, f"0{bits}b")[::-1], 2)
        if other > k:
            for part in (0, 1):
                data[2 * k + part], data[2 * other + part] = data[2 * other + part], data[2 * k + part]
    span = 1
    while span < half:
        for start in range(0, half, 2 * span):
            for j in range(span):
                a, b = 2 * (start + j), 2 * (start + j + span)
                t = turn(data[b], data[b + 1], *angle(j * (half // span)))
                for part in (0, 1):
                    up, down = i32(data[a + part] + t[part] + 1), i32(data[a + part] - t[part] + 1)
                    data[a + part], data[b + part] = up >> 1, down >> 1
        span *= 2
    return angle


def frame_logs(samples, peak, front_end, table):
    fft, window = front_end.fft, front_end.window
    products = [i64(s * int(table.window[min(n, window - n)])) for n, s in enumerate(samples)]
    left = 28 - max(15, *(abs(p).bit_length() for p in products))
    data = [i32(shift(p, left)) for p in products] + [0] * (fft - window)
    angle = transform(data, fft, table.sine)
    energy = [0] * (front_end.bands + 1)
    for position, (band, weight) in enumerate(zip(table.mel_band.tolist(), table.mel_weight.tolist())):
        k = table.first_bin + position
        (a_re, a_im), (b_re, b_im) = data[2 * k : 2 * k + 2], data[fft - 2 * k : fft - 2 * k + 2]
        t_re, t_im = turn(i32(a_re - b_re), i32(a_im + b_im), *angle(k))
        re, im = i32(a_re + b_re + t_im + 1) >> 1, i32(a_im - b_im - t_re + 1) >> 1
        magnitude = i32(square_root(i64(re * re + im * im)))
        energy[band] = i64(energy[band] + magnitude * weight)
        if band:
            energy[band - 1] = i64(energy[band - 1] + magnitude * (32768 - weight))
    fraction = 45 + left - (fft.bit_length() - 2)
    floor = shift(i64(peak * table.floor), fraction - 40)
    peak_log = log2(peak, table)
    return [i32(log2(max(i64(e + floor), 1), table) - (fraction << 15) - peak_log) for e in energy[: front_end.bands]]


def scalar_features(clip, front_end):
    """int8 features of one clip as nested lists [frames][coefficients or bands]."""
    table, samples = tables(front_end), clip.tolist()
    peak = max(1, *samples) if front_end.peak == "clip" else 32768
    rows = []
    for frame in range(front_end.frames):
        start = frame * front_end.stride
        logs = frame_logs(samples[start : start + front_end.window], peak, front_end, table)
        bits = table.matrix_bits + 15
        if front_end.coefficients:
            sums = [sum(int(m) * log for m, log in zip(row, logs)) for row in table.matrix]
        else:
            sums = [int(table.matrix[0, 0]) * log for log in logs]
        row = []
        for value in sums:
            total = i64(value + (front_end.zero_point << bits))
            if front_end.rounding == "nearest":
                q = total + (1 << (bits - 1)) >> bits
            else:
                q = -(-total >> bits) if total < 0 else total >> bits
            row.append(min(max(q, -128), 127))
        rows.append(row)
    return rows
