// Matrix products over few rows, in single precision on one thread.
//
// Rows are tokens. A pitch is the distance between two rows [floats]. Columns are padded by zeros to whole vectors.
// Weights are packed into panels as wide as a tile, each with its rows one behind the other: the order they are read in.
#pragma once
#include <algorithm>
#include <array>
#include <utility>

#if defined(__AVX512F__)
constexpr long LANES = 16, ROWS = 8, WIDE = 3;  // a tile's sums fill 24 of 32 registers
#elif defined(__AVX__)
constexpr long LANES = 8, ROWS = 4, WIDE = 3;  // 12 of 16
#elif defined(__aarch64__)
constexpr long LANES = 4, ROWS = 8, WIDE = 3;  // 24 of 32
#else
constexpr long LANES = 4, ROWS = 4, WIDE = 3;
#endif

typedef float Vector __attribute__((vector_size(LANES * 4)));
typedef float Loose __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int Integers __attribute__((vector_size(LANES * 4)));

constexpr long padded(long n) { return (n + LANES - 1) / LANES * LANES; }
inline Vector load(const float* from) { return *reinterpret_cast<const Loose*>(from); }
inline void store(float* to, Vector x) { *reinterpret_cast<Loose*>(to) = x; }
inline Vector all(float x) { return Vector{} + x; }

inline float sum_of(Vector x) {
    float sum = 0;
    for (long i = 0; i < LANES; ++i) sum += x[i];
    return sum;
}

// e^x to 2e-7 relative: a power of two times a polynomial on ±ln 2 / 2 (Cephes' coefficients).
inline Vector exponential(Vector x) {
    x = x < all(-87.0f) ? all(-87.0f) : x;
    x = x > all(88.0f) ? all(88.0f) : x;
    const float whole = 12582912.0f;  // 1.5 · 2^23: a sum with it has no fraction
    const Vector n = (x * 1.44269504088896341f + whole) - whole;
    const Vector r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Vector p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    const Integers power = (__builtin_convertvector(n, Integers) + 127) << 23;
    return (p * r * r + r + 1.0f) * (Vector)power;
}

// R rows by V vectors of a product, while what is read next, from `ahead` on, comes nearer.
template <int R, int V>
void tile(const float* a, long a_pitch, const float* b, long b_pitch, long depth, const float* bias, const float* onto,
          float* c, long c_pitch, const float* ahead) {
    Vector sum[R][V];
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) {
            sum[r][v] = bias ? load(bias + v * LANES) : Vector{};
            if (onto) sum[r][v] += load(onto + r * c_pitch + v * LANES);
        }
    for (long k = 0; k < depth; ++k, b += b_pitch) {
        Vector right[V];
        for (int v = 0; v < V; ++v) right[v] = load(b + v * LANES);
        __builtin_prefetch(ahead + k * LANES, 0, 2);
        for (int r = 0; r < R; ++r) {
            const float left = a[r * a_pitch + k];
            for (int v = 0; v < V; ++v) sum[r][v] += left * right[v];
        }
    }
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) store(c + r * c_pitch + v * LANES, sum[r][v]);
}

typedef void (*Tile)(const float*, long, const float*, long, long, const float*, const float*, float*, long,
                     const float*);

template <int... I>
constexpr std::array<Tile, sizeof...(I)> make_tiles(std::integer_sequence<int, I...>) {
    return {tile<I / WIDE + 1, I % WIDE + 1>...};
}
constexpr auto TILES = make_tiles(std::make_integer_sequence<int, ROWS * WIDE>{});

// Calls f(begin, size) for parts of `count`, none larger than `most` and as even as can be.
template <typename F>
void evenly(long count, long most, F f) {
    const long parts = (count + most - 1) / most;
    for (long i = 0, begin = 0; i < parts; ++i) {
        const long size = count / parts + (i < count % parts);
        f(begin, size);
        begin += size;
    }
}

// c = a·b + bias + onto. b is packed where its pitch is 0; columns are whole vectors; onto is null or of c's pitch, or c.
// A panel is read by all rows before the next, so that its tiles are the time in which the next one can arrive.
inline void product(const float* a, long a_pitch, long rows, long depth, const float* b, long b_pitch, long columns,
                    const float* bias, const float* onto, float* c, long c_pitch) {
    evenly(columns / LANES, WIDE, [&](long first, long wide) {
        const long n = first * LANES;
        const float* panel = b_pitch ? b + n : b + n * depth;
        const float* ahead = b_pitch ? panel : panel + wide * LANES * depth;
        evenly(rows, ROWS, [&](long r, long tall) {
            TILES[(tall - 1) * WIDE + wide - 1](a + r * a_pitch, a_pitch, panel, b_pitch ? b_pitch : wide * LANES, depth,
                                                bias ? bias + n : nullptr, onto ? onto + r * c_pitch + n : nullptr,
                                                c + r * c_pitch + n, c_pitch, ahead);
            if (!b_pitch) ahead += depth * LANES;
        });
    });
}

// weight [n depth] → its packed form of padded(n) · depth floats.
inline void pack_into(const float* weight, long n, long depth, float* out) {
    evenly(padded(n) / LANES, WIDE, [&](long first, long wide) {
        for (long k = 0; k < depth; ++k)
            for (long j = first * LANES; j < (first + wide) * LANES; ++j) *out++ = j < n ? weight[j * depth + k] : 0.0f;
    });
}
