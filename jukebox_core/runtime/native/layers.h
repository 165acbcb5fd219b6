// Norms, activations and attention of one row. Sums, norms and softmax are float32.

#pragma once

#include "weights.h"

namespace {

// e to the x: a power of two times a polynomial on [-ln 2 / 2, ln 2 / 2], right to about 1e-7 of its value.
inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    const float shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the integer is in the low bits
    const float power = shifted - 12582912.0f;
    const float r = (x - power * 0.693359375f) + power * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    return p * from_bits((to_bits(shifted) + 127) << 23);
}

// Layer norm; without a bias, root mean square norm.
inline void normalise(const float* x, const float* weight, const float* bias, float epsilon, float* out, int64_t width) {
    float sum = 0, squares = 0;
    if (bias) {
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < width; i++) sum += x[i];
    }
    const float mean = sum / float(width);
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < width; i++) squares += (x[i] - mean) * (x[i] - mean);
    const float scale = 1 / std::sqrt(squares / float(width) + epsilon);
    if (!bias) {
        for (int64_t i = 0; i < width; i++) out[i] = x[i] * scale * weight[i];
        return;
    }
    for (int64_t i = 0; i < width; i++) out[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

inline void quick_gelu(float* x, int64_t count) {
    for (int64_t i = 0; i < count; i++) x[i] = x[i] / (1 + exponential(-1.702f * x[i]));
}

// gelu(x) * gate, with the tanh form of the GELU, written as a sigmoid.
inline void gated_gelu(float* x, const float* gate, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        x[i] = x[i] / (1 + exponential(-1.5957691216f * (x[i] + 0.044715f * x[i] * x[i] * x[i]))) * gate[i];
}

// Attention of one query to `count` keys; zeros for no keys. `weights` is scratch for `count` floats.
template <class Cached>
void attend(const float* query, const Cached* keys, const Cached* values, int64_t count, int64_t width, float scale,
            float* weights, float* out) {
    float largest = -INFINITY, total = 0;
    for (int64_t key = 0; key < count; key++) {
        float score = 0;
        const Cached* at = keys + key * width;
#pragma omp simd reduction(+ : score)
        for (int64_t i = 0; i < width; i++) score += query[i] * load(at + i);
        weights[key] = score * scale;
        largest = std::max(largest, weights[key]);
    }
    for (int64_t key = 0; key < count; key++) weights[key] = exponential(weights[key] - largest);
    for (int64_t key = 0; key < count; key++) total += weights[key];
    std::fill_n(out, width, 0.0f);
    for (int64_t key = 0; key < count; key++) {
        const float weight = weights[key] / total;
        const Cached* at = values + key * width;
        for (int64_t i = 0; i < width; i++) out[i] += weight * load(at + i);
    }
}

}  // namespace
