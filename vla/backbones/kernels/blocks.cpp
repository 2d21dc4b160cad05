// Transformer layers over a short sequence, on one thread: what `layers.py` and `flow.py` call.
//
// A denoising step of fifty action tokens is products of tens of microseconds, and a general library spends a third as
// much again on calling each. Here a layer is one function and what lies between its products stays in the cache.
//
// B sequences, N new tokens in each, Q query heads, K key-value heads, E width of a head.
#include <cmath>
#include <cstring>
#include <vector>

#include "product.h"

// The structs are mirrored in layers.py and flow.py. `head_width` and `inner` are padded to whole vectors, `half` is not.
struct Shape {
    long width, heads, kv_heads, head_width, half, inner;
    long centred, gated, gelu;  // LayerNorm, not RMSNorm; gate · up; GELU in its tanh form, not SiLU
    float eps;
};

// Packed weights, and biases or null. `mix` makes queries, then keys and values unless the layer crosses; `up` makes
// gates first. Tokens before these: keys [B K E room], values [B room K·E]; where this call's are to go, or null.
struct Layer {
    const float *mix, *mix_bias, *out, *out_bias, *up, *up_bias, *down, *down_bias;
    const float *old_keys, *old_values;
    float *new_keys, *new_values;
    long crosses;
};

// `old` tokens lie before the `tokens` of each sequence, in `room` columns; new keys and values go `offset` tokens into
// `new_room` columns. Rotations [B N half], null where nothing turns. Biases of scores: [B N room + padded(N)] with
// their pitches, 0 to repeat, and [B room] for layers that cross.
struct Call {
    long batch, tokens, old, room, offset, new_room;
    const float *cos, *sin, *cross_cos, *cross_sin, *bias, *cross_bias;
    long bias_batch, bias_row;
    long last_stops;  // of the last layer nothing but its keys and values is wanted
};

// styles [steps 2·layers+1 3 padded(width)] or null; times [steps padded(width)].
struct Flow {
    long steps, actions;
    const float *enter, *times, *time_out, *time_bias, *leave, *leave_bias, *styles;
};

namespace {
constexpr long BLOCK = 64;  // rows whose intermediate results stay in the second-level cache

struct Scratch {
    std::vector<float> normed, mixed, found, inner, change, keys, scores, hidden, velocity;
};

float* reserve(std::vector<float>& v, long size) {
    if (long(v.size()) < size) v.resize(size);
    return v.data();
}

void activate(float* x, long count, bool gelu) {
    for (long i = 0; i < count; i += LANES) {
        const Vector v = load(x + i);
        const Vector u = gelu ? 1.5957691216057308f * v * (1.0f + 0.044715f * v * v) : v;
        store(x + i, v / (1.0f + exponential(-u)));
    }
}

// Normalised rows, then · style[0] + style[1] where there is a style.
void normalise(const Shape& s, const float* x, long rows, const float* style, float* out) {
    const long pitch = padded(s.width);
    for (long r = 0; r < rows; ++r, x += pitch, out += pitch) {
        Vector total{}, squares{};
        for (long i = 0; i < pitch; i += LANES) total += load(x + i);
        const float mean = s.centred ? sum_of(total) / s.width : 0.0f;
        for (long i = 0; i < pitch; i += LANES) squares += (load(x + i) - mean) * (load(x + i) - mean);
        const float variance = (sum_of(squares) - (pitch - s.width) * mean * mean) / s.width;
        const float scale = 1.0f / std::sqrt(variance + s.eps);
        for (long i = 0; i < pitch; i += LANES) {
            const Vector v = (load(x + i) - mean) * scale;
            store(out + i, style ? v * load(style + i) + load(style + pitch + i) : v);
        }
    }
}

// Rotary positions of the first `count` heads of each row, in place.
void turn(const Shape& s, float* x, long pitch, long rows, long count, const float* cos, const float* sin) {
    for (long r = 0; r < rows; ++r, x += pitch, cos += s.half, sin += s.half)
        for (long h = 0; h < count; ++h) {
            float *first = x + h * s.head_width, *second = first + s.half;
            long e = 0;
            for (; e + LANES <= s.half; e += LANES) {
                const Vector f = load(first + e), g = load(second + e), c = load(cos + e), d = load(sin + e);
                store(first + e, f * c - g * d);
                store(second + e, g * c + f * d);
            }
            for (; e < s.half; ++e) {
                const float f = first[e], g = second[e];
                first[e] = f * cos[e] - g * sin[e];
                second[e] = g * cos[e] + f * sin[e];
            }
        }
}

// Scores [rows columns] + bias → e^(score − the row's largest), and 1 / the row's sum.
void soften(float* scores, long rows, long columns, const float* bias, long bias_row, float* inverse) {
    for (long r = 0; r < rows; ++r, scores += columns, bias += bias_row) {
        Vector most = all(-3e38f), total{};
        for (long i = 0; i < columns; i += LANES) {
            const Vector v = load(scores + i) + load(bias + i);
            most = v > most ? v : most;
            store(scores + i, v);
        }
        float largest = most[0];
        for (long i = 1; i < LANES; ++i) largest = std::max(largest, most[i]);
        for (long i = 0; i < columns; i += LANES) {
            const Vector v = exponential(load(scores + i) - largest);
            total += v;
            store(scores + i, v);
        }
        inverse[r] = 1.0f / sum_of(total);
    }
}

// New keys of one sequence, transposed to [K E padded(N)]; they and the values also go where the caller wants them.
void keep(const Shape& s, const Layer& w, const Call& c, long b, const float* mixed, long pitch, float* keys) {
    const long e = s.head_width, n = c.tokens, columns = padded(n), pair = s.kv_heads * e;
    mixed += s.heads * e;
    for (long i = 0; i < pair; ++i) {
        float* to = keys + i * columns;
        for (long j = 0; j < n; ++j) to[j] = mixed[j * pitch + i];
        std::fill(to + n, to + columns, 0.0f);
        if (w.new_keys) std::memcpy(w.new_keys + (b * pair + i) * c.new_room + c.offset, to, n * sizeof(float));
    }
    for (long j = 0; w.new_values && j < n; ++j)
        std::memcpy(w.new_values + (b * c.new_room + c.offset + j) * pair, mixed + j * pitch + pair, pair * sizeof(float));
}

// Of one sequence: queries, keys and values in `mixed` [N ·] → found [N Q·E].
void attend(const Shape& s, const Layer& w, const Call& c, long b, const float* mixed, long pitch, const float* keys,
            float* found, Scratch& scratch) {
    const long e = s.head_width, n = c.tokens, wide = s.heads * e, pair = s.kv_heads * e;
    const long own = w.crosses ? 0 : padded(n), columns = c.room + own, bias_row = w.crosses ? 0 : c.bias_row;
    const float* bias = w.crosses ? c.cross_bias + b * c.room : c.bias + b * c.bias_batch;
    float *scores = reserve(scratch.scores, BLOCK * columns), inverse[BLOCK];
    for (long h = 0; h < s.heads; ++h)
        for (long r = 0; r < n; r += BLOCK) {
            const long k = h * s.kv_heads / s.heads, rows = std::min(BLOCK, n - r);
            const float* queries = mixed + r * pitch + h * e;
            float* to = found + r * wide + h * e;
            if (c.room) {
                const float* old = w.old_keys + (b * s.kv_heads + k) * e * c.room;
                product(queries, pitch, rows, e, old, c.room, c.room, nullptr, nullptr, scores, columns);
            }
            if (own) product(queries, pitch, rows, e, keys + k * e * own, own, own, nullptr, nullptr, scores + c.room, columns);
            soften(scores, rows, columns, bias + r * bias_row, bias_row, inverse);
            if (c.room) {
                const float* old = w.old_values + b * c.room * pair + k * e;
                product(scores, columns, rows, c.old, old, pair, e, nullptr, nullptr, to, wide);
            }
            if (own) {
                const float* values = mixed + wide + pair + k * e;
                product(scores + c.room, columns, rows, n, values, pitch, e, nullptr, c.room ? to : nullptr, to, wide);
            }
            for (long q = 0; q < rows; ++q)
                for (long i = 0; i < e; i += LANES) store(to + q * wide + i, load(to + q * wide + i) * inverse[q]);
        }
}

// x + a·b + bias, and where there is a style x + (a·b + bias) · its gate.
void add(const Shape& s, const float* a, long pitch, long rows, long depth, const float* b, const float* bias,
         const float* style, float* x, Scratch& scratch) {
    const long wide = padded(s.width);
    if (!style) return product(a, pitch, rows, depth, b, 0, wide, bias, x, x, wide);
    float* change = reserve(scratch.change, rows * wide);
    product(a, pitch, rows, depth, b, 0, wide, bias, nullptr, change, wide);
    for (long r = 0; r < rows; ++r)
        for (long i = 0; i < wide; i += LANES) {
            float* to = x + r * wide + i;
            store(to, load(to) + load(change + r * wide + i) * load(style + 2 * wide + i));
        }
}

void feed(const Shape& s, const Layer& w, float* x, long rows, const float* style, Scratch& scratch) {
    const long pitch = padded(s.width), inner = s.inner * (1 + s.gated);
    float *normed = reserve(scratch.normed, rows * pitch), *hidden = reserve(scratch.inner, rows * inner);
    normalise(s, x, rows, style, normed);
    product(normed, pitch, rows, s.width, w.up, 0, inner, w.up_bias, nullptr, hidden, inner);
    for (long r = 0; r < rows; ++r) {
        float* gate = hidden + r * inner;
        activate(gate, s.inner, s.gelu);
        for (long i = 0; s.gated && i < s.inner; i += LANES) store(gate + i, load(gate + i) * load(gate + s.inner + i));
    }
    add(s, hidden, inner, rows, s.inner, w.down, w.down_bias, style, x, scratch);
}

void layer(const Shape& s, const Layer& w, const Call& c, float* x, const float* style, bool stops, Scratch& scratch) {
    const long wide = padded(s.width), queries = s.heads * s.head_width, n = c.tokens, rows = c.batch * n;
    const long pitch = queries + (w.crosses ? 0 : 2 * s.kv_heads * s.head_width);
    const float *cos = w.crosses ? c.cross_cos : c.cos, *sin = w.crosses ? c.cross_sin : c.sin;
    float *normed = reserve(scratch.normed, std::min(rows, BLOCK) * wide), *mixed = reserve(scratch.mixed, rows * pitch);
    float* found = reserve(scratch.found, rows * queries);
    float* keys = reserve(scratch.keys, s.kv_heads * s.head_width * padded(n));
    evenly(rows, BLOCK, [&](long r, long count) {
        normalise(s, x + r * wide, count, style, normed);
        product(normed, wide, count, s.width, w.mix, 0, pitch, w.mix_bias, nullptr, mixed + r * pitch, pitch);
        const long turned = s.heads + (w.crosses ? 0 : s.kv_heads);
        if (cos) turn(s, mixed + r * pitch, pitch, count, turned, cos + r * s.half, sin + r * s.half);
    });
    for (long b = 0; b < c.batch; ++b) {
        if (!w.crosses) keep(s, w, c, b, mixed + b * n * pitch, pitch, keys);
        if (!stops) attend(s, w, c, b, mixed + b * n * pitch, pitch, keys, found + b * n * queries, scratch);
    }
    if (stops) return;
    evenly(rows, BLOCK, [&](long r, long count) {
        float* here = x + r * wide;
        add(s, found + r * queries, queries, count, queries, w.out, w.out_bias, style, here, scratch);
        feed(s, w, here, count, style ? style + 3 * wide : nullptr, scratch);
    });
}

void run(const Shape& s, const Layer* layers, long depth, const Call& c, float* x, const float* styles, Scratch& scratch) {
    for (long i = 0; i < depth; ++i) {
        const float* style = styles ? styles + i * 6 * padded(s.width) : nullptr;
        layer(s, layers[i], c, x, style, c.last_stops && i + 1 == depth, scratch);
    }
}

thread_local Scratch scratch;
}  // namespace

extern "C" {
long lanes() { return LANES; }

void pack(const float* weight, long n, long depth, float* out) { pack_into(weight, n, depth, out); }

// x [rows depth] → [rows padded(n)].
void linear(const float* x, long rows, long depth, const float* packed, const float* bias, long n, float* out) {
    evenly(rows, BLOCK, [&](long r, long count) {
        product(x + r * depth, depth, count, depth, packed, 0, padded(n), bias, nullptr, out + r * padded(n), padded(n));
    });
}

// x [B N padded(width)], in place.
void blocks(const Shape* s, const Layer* layers, long depth, const Call* c, float* x) {
    run(*s, layers, depth, *c, x, nullptr, scratch);
}

// Steps `first` to `last` of Euler's method on x [B N A]; all of them make actions of noise.
void denoise(const Shape* s, const Layer* layers, long depth, const Call* c, const Flow* f, long first, long last, float* x) {
    const long wide = padded(s->width), rows = c->batch * c->tokens, size = padded(f->actions);
    float *h = reserve(scratch.hidden, 2 * rows * wide), *other = h + rows * wide;
    float* velocity = reserve(scratch.velocity, rows * size);
    for (long k = first; k < last; ++k) {
        const float* styles = f->styles ? f->styles + k * (2 * depth + 1) * 3 * wide : nullptr;
        float* into = f->time_out ? other : h;
        product(x, f->actions, rows, f->actions, f->enter, 0, wide, f->times + k * wide, nullptr, into, wide);
        if (f->time_out) {
            activate(other, rows * wide, false);
            product(other, wide, rows, s->width, f->time_out, 0, wide, f->time_bias, nullptr, h, wide);
        }
        run(*s, layers, depth, *c, h, styles, scratch);
        normalise(*s, h, rows, styles ? styles + 2 * depth * 3 * wide : nullptr, other);
        product(other, wide, rows, s->width, f->leave, 0, size, f->leave_bias, nullptr, velocity, size);
        for (long r = 0; r < rows; ++r)
            for (long i = 0; i < f->actions; ++i) x[r * f->actions + i] -= velocity[r * size + i] / f->steps;
    }
}
}
