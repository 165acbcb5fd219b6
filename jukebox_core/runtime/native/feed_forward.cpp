// The feed-forward half of a layer for many rows: norm, product, activation, product and residual connection, some rows
// at a time, so that what lies between two products stays in the second-level cache. A row is computed as by `step`.

#include "layers.h"
#include "products.h"

extern "C" {

struct FeedForward {
    const float *norm_weight, *norm_bias;
    Matrix project_in, project_out;
    float residual_scale, epsilon;
    int32_t precision;
};

int64_t feed_forward_scratch(const FeedForward* layer, int64_t rows, int64_t threads);
void feed_forward(const FeedForward* layer, const float* x, const float* update, float* out, int64_t rows,
                  float* scratch, int64_t threads);
}

namespace {

constexpr int64_t TOGETHER_ROWS = 256;  // of a thread

// Buffers of one thread.
struct RowBuffers {
    Operands operands;
    float *normed, *hidden;
    int64_t floats;

    RowBuffers(const FeedForward& layer, int64_t rows, float* buffer) {
        const int64_t most = std::min(rows, TOGETHER_ROWS), inner = layer.project_out.inputs;
        FloatArena arena{buffer};
        operands = Operands::in(arena, most, std::max(layer.project_in.inputs, inner));
        normed = arena.allocate(layer.project_in.inputs);
        hidden = arena.allocate(most * inner);
        floats = arena.free - buffer;
    }
};

// Computes some rows; arguments as of `feed_forward`.
template <int32_t P>
void feed_rows(const FeedForward& layer, const float* x, const float* update, float* out, int64_t rows,
               RowBuffers& buffers) {
    const int64_t width = layer.project_in.inputs, inner = layer.project_out.inputs;
    Operands& operands = buffers.operands;
    operands.rows = rows;
    const auto prepare = [&](int64_t inputs, auto values) {
        operands.inputs = inputs;
        operands.tiled = by_tiles<P>(inputs, rows);
        for (int64_t row = 0; row < rows; row++) set_operands<P>(operands, row, values(row));
    };
    prepare(width, [&](int64_t row) {
        float* attended = out + row * width;
        for (int64_t i = 0; i < width; i++) attended[i] = x[row * width + i] + update[row * width + i];
        normalise(attended, layer.norm_weight, layer.norm_bias, layer.epsilon, buffers.normed, width);
        return buffers.normed;
    });
    const Share all_in = panels(layer.project_in, 0, 1), all_out = panels(layer.project_out, 0, 1);
    multiply_panels<P>(layer.project_in, operands, all_in.begin, all_in.end, copy_to(buffers.hidden, inner));
    prepare(inner, [&](int64_t row) {
        quick_gelu(buffers.hidden + row * inner, inner);
        return buffers.hidden + row * inner;
    });
    const float scale = layer.residual_scale;
    multiply_panels<P>(layer.project_out, operands, all_out.begin, all_out.end,
                       [&](int64_t row, int64_t output, const float* values, int count) {
        float* at = out + row * width + output;
        const float* before = x + row * width + output;
        if (scale == 1)
            for (int i = 0; i < count; i++) at[i] += values[i];
        else
            for (int i = 0; i < count; i++) at[i] = before[i] + scale * (at[i] - before[i] + values[i]);
    });
}

template <int32_t P>
void feed_all(const FeedForward& layer, const float* x, const float* update, float* out, int64_t rows, float* scratch,
              int64_t threads) {
    const int64_t width = layer.project_in.inputs;
    const int64_t together = std::min(TOGETHER_ROWS, (rows + threads - 1) / threads);
#pragma omp parallel num_threads(int(threads))
    {
        const TileConfiguration tiles;
        RowBuffers buffers(layer, rows, nullptr);
        buffers = RowBuffers(layer, rows, scratch + omp_get_thread_num() * buffers.floats);
#pragma omp for schedule(dynamic)
        for (int64_t row = 0; row < rows; row += together)
            feed_rows<P>(layer, x + row * width, update + row * width, out + row * width,
                         std::min(together, rows - row), buffers);
    }
}

}  // namespace

// Returns the size of `feed_forward`'s scratch in floats.
int64_t feed_forward_scratch(const FeedForward* layer, int64_t rows, int64_t threads) {
    return threads * RowBuffers(*layer, rows, nullptr).floats;
}

// Computes out [rows, W] = x + scale * (update + feed-forward part of the norm of (x + update)); all float32.
void feed_forward(const FeedForward* layer, const float* x, const float* update, float* out, int64_t rows,
                  float* scratch, int64_t threads) {
    switch (layer->precision) {
        case FLOAT32: return feed_all<FLOAT32>(*layer, x, update, out, rows, scratch, threads);
        case BFLOAT16: return feed_all<BFLOAT16>(*layer, x, update, out, rows, scratch, threads);
        case INT8: return feed_all<INT8>(*layer, x, update, out, rows, scratch, threads);
    }
}
