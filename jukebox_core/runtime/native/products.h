// Matrix products of rows of activations, by vectors or by tiles. Layout and quantisation of matrices: see weights.h.

#pragma once

#include "tiles.h"

namespace {

// Memory that is handed out from its beginning on; of a null address, only its size is computed.
struct FloatArena {
    float* free;
    float* allocate(int64_t count) {
        float* allocated = free;
        free += (count + LANES - 1) / LANES * LANES;
        return allocated;
    }
};

// Activations as operands, [groups][I / R][rows of the group]. With int8 weights, each block of BLOCK inputs of a row
// has a scale and an initial value of its sums: [groups][blocks][rows of the group]. For tiles,
// see tiles.h: scales and initial values are [rows / TILE_ROWS][blocks][TILE_ROWS].
struct Operands {
    int32_t* at;
    float* scale;
    int32_t* start;
    int64_t rows, inputs;
    bool tiled = false;
    int64_t blocks() const { return (inputs + BLOCK - 1) / BLOCK; }
    // Rows that there must be memory for: the last tile is read and computed whole.
    static int64_t allocated(int64_t rows) { return TILES ? (rows + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS : rows; }
    // Returns operands in an arena, for products of at most so many inputs.
    static Operands in(FloatArena& arena, int64_t rows, int64_t most_inputs) {
        const int64_t whole = allocated(rows), blocks = whole * (most_inputs / BLOCK + 1);
        int32_t* at = (int32_t*)arena.allocate(whole * most_inputs);
        float* scale = arena.allocate(blocks);
        return {at, scale, (int32_t*)arena.allocate(blocks), rows, most_inputs};
    }
};

constexpr int64_t FEWEST_TILED = 16;     // rows of a product with int8 weights by tiles
constexpr int64_t TILED_TOGETHER = 256;  // rows that are multiplied with all of a thread's panels, before others are
constexpr int64_t STEPS_TOGETHER = 8;    // of a panel, 2 KB each

// Whether operands of a product with so many rows are those of tiles.
template <int32_t P> bool by_tiles(int64_t inputs, int64_t rows) {
    if (!TILES || P == FLOAT32 || inputs < BLOCK || !tiles_permitted()) return false;
    return P == BFLOAT16 || rows >= FEWEST_TILED;
}

// Returns the size of the group that begins at `row`: a power of two, at most GROUP.
inline int64_t group_size(int64_t row, int64_t rows) {
    int64_t size = GROUP;
    while (size > rows - row) size /= 2;
    return size;
}

#if TILES

// Steps of a panel by tiles, the last of which may be filled up with zeros.
template <int32_t P> int64_t tile_steps(int64_t inputs) {
    return (inputs * int64_t(sizeof(typename Weights<P>::Element)) + TILE_BYTES - 1) / TILE_BYTES;
}

// Converts one row of activations to operands of tiles.
template <int32_t P> void set_tiled_operands(Operands& to, int64_t row, const float* values) {
    constexpr int64_t COUNT = P == BFLOAT16 ? TILE_BYTES / 2 : TILE_BYTES;  // values in a row of a tile
    const int64_t tiles = tile_steps<P>(to.inputs), first = row / TILE_ROWS * tiles;
    for (int64_t i = 0; i < tiles; i++, values += COUNT) {
        const int64_t count = std::min(COUNT, to.inputs - i * COUNT);
        uint8_t* at = (uint8_t*)to.at + (first + i) * TILE_SIZE + row % TILE_ROWS * TILE_BYTES;
        if (count < COUNT) std::fill_n(at, TILE_BYTES, uint8_t(0));
        if constexpr (P == BFLOAT16) {
            for (int64_t j = 0; j < count; j++) ((uint16_t*)at)[j] = uint16_t(bfloat_bits(values[j]));
        } else {
            const Rounded rounded = quantise_int8(values, count, (int8_t*)at);
            to.scale[(first + i) * TILE_ROWS + row % TILE_ROWS] = rounded.scale;
            to.start[(first + i) * TILE_ROWS + row % TILE_ROWS] = rounded.start;
        }
    }
}

#endif

// Converts one row of activations to operands.
template <int32_t P> void set_operands(Operands& to, int64_t row, const float* values) {
#if TILES
    if constexpr (P != FLOAT32)
        if (to.tiled) return set_tiled_operands<P>(to, row, values);
#endif
    int64_t first = row - row % GROUP;
    while (first + group_size(first, to.rows) <= row) first += group_size(first, to.rows);
    const int64_t size = group_size(first, to.rows), R = Weights<P>::R;
    int32_t* at = to.at + first * (to.inputs / R) + (row - first);
    if (P == FLOAT32) {
        for (int64_t i = 0; i < to.inputs; i++) at[i * size] = int32_t(to_bits(values[i]));
    } else if (P == BFLOAT16) {
        for (int64_t i = 0; i < to.inputs / 2; i++)
            at[i * size] = int32_t(bfloat_bits(values[2 * i]) | bfloat_bits(values[2 * i + 1]) << 16);
    } else {
        const int64_t block_at = first * to.blocks() + (row - first);
        for (int64_t block = 0; block < to.blocks(); block++) {
            const int64_t count = std::min(BLOCK, to.inputs - block * BLOCK);
            int8_t whole[BLOCK];
            const Rounded rounded = quantise_int8(values + block * BLOCK, count, whole);
            to.scale[block_at + block * size] = rounded.scale;
            to.start[block_at + block * size] = rounded.start;
            for (int64_t i = 0; i < count; i += 4) std::memcpy(at + (block * BLOCK + i) / 4 * size, whole + i, 4);
        }
    }
}

// Multiplies N vectors of a panel with a group of M rows; arguments as of `multiply_panel`.
template <int32_t P, int M, int N>
inline void multiply_vectors(const typename Weights<P>::Element* weight, int64_t inputs, const int32_t* x,
                             const float* scale, const int32_t* start, int64_t ahead, float* sums) {
    using W = Weights<P>;
    const int64_t block = P == INT8 ? BLOCK : inputs;
    floats total[M][N] = {};
    for (int64_t begin = 0; begin < inputs; begin += block) {
        typename W::Sum part[M][N] = {};
        if constexpr (P == INT8)
            for (int m = 0; m < M; m++)
                for (int v = 0; v < N; v++) part[m][v] += start[m];
        for (int64_t i = begin; i < std::min(begin + block, inputs); i += W::R, weight += W::R * PANEL, x += M) {
            decltype(W::read(weight)) read[N];
            for (int v = 0; v < N; v++) read[v] = W::read(weight + W::R * LANES * v);
            if (ahead)
                for (int64_t byte = 0; byte < int64_t(W::R * PANEL * sizeof *weight); byte += 64)
                    __builtin_prefetch((const char*)(weight + ahead) + byte, 0, 2);
            for (int m = 0; m < M; m++)
                for (int v = 0; v < N; v++) part[m][v] = W::add(part[m][v], read[v], x[m]);
        }
        for (int m = 0; m < M; m++)
            for (int v = 0; v < N; v++)
                if constexpr (P == INT8) total[m][v] += W::number(part[m][v]) * scale[m];
                else total[m][v] = part[m][v];
        if constexpr (P == INT8) scale += M, start += M;
    }
    for (int m = 0; m < M; m++)
        for (int v = 0; v < N; v++) *(floats*)(sums + m * PANEL + v * LANES) = total[m][v];
}

// Multiplies a panel with a group of M rows: sums is [M, PANEL]. `ahead` is the distance of the panel to prefetch, in
// elements; 0: none.
template <int32_t P, int M>
inline void multiply_panel(const typename Weights<P>::Element* weight, int64_t inputs, const int32_t* x,
                           const float* scale, const int32_t* start, int64_t ahead, float* sums) {
    using W = Weights<P>;
    constexpr int N = M < 4 ? V : TOGETHER;
    for (int first = 0; first < V; first += N)
        multiply_vectors<P, M, N>(weight + W::R * LANES * first, inputs, x, scale, start, ahead, sums + LANES * first);
}

// Passes on the sums of a panel, [rows, PANEL], as outputs: calls `emit(row, first output, values, count)` for `count`
// outputs of a row at a time.
template <int32_t P, class Emit>
void emit_panel(const Matrix& matrix, int64_t panel, int64_t row, int64_t rows, float* sums, Emit emit) {
    const int64_t output = panel * PANEL;
    const int count = int(std::min(PANEL, matrix.outputs - output));
    for (int64_t m = 0; m < rows; m++) {
        float* values = sums + m * PANEL;
        if (P == INT8)
            for (int i = 0; i < count; i++) values[i] *= matrix.scale[output + i];
        for (int i = 0; i < count; i++) values[i] += matrix.bias[output + i];
        emit(row + m, output, values, count);
    }
}

#if TILES

// Adds the products of `count` steps of a panel, from `first` on, with rows of `x` from `row` on to `sums`; `weight` is
// that of the first of these steps.
template <int32_t P>
void add_tiled_steps(const uint8_t* weight, const Operands& x, int64_t row, bool two, int64_t first, int64_t count,
                     float* sums) {
    const int64_t steps = tile_steps<P>(x.inputs), tile = row / TILE_ROWS * steps + first;
    const uint8_t* at = (const uint8_t*)x.at + tile * TILE_SIZE;
    if constexpr (P == BFLOAT16) {
        const uint8_t* next = two ? at + steps * TILE_SIZE : nullptr;
        multiply_tiles_bfloat16((const uint16_t*)weight, count, at, next, sums);
    } else {
        for (int64_t half = 0; half < 2; half++)
            multiply_tile_int8(weight + half * 4 * TILE_ROWS, count, at, x.scale + tile * TILE_ROWS,
                               x.start + tile * TILE_ROWS, sums + half * TILE_ROWS);
    }
}

// As `multiply_panels`, by tiles: for some rows at a time, some steps of a panel that stay in the first-level cache.
template <int32_t P, class Emit>
void multiply_tiled_panels(const Matrix& matrix, const Operands& x, int64_t begin, int64_t end, Emit emit) {
    constexpr int64_t ROWS = P == BFLOAT16 ? 2 * TILE_ROWS : TILE_ROWS, STEP = TILE_BYTES * PANEL;  // bytes of weights
    const int64_t panel_size = matrix.inputs * PANEL * int64_t(sizeof(typename Weights<P>::Element));
    const int64_t whole = panel_size / STEP, rest = panel_size % STEP;
    alignas(64) float sums[TILED_TOGETHER * PANEL];
    alignas(64) uint8_t last[STEP] = {};  // the last step of a panel, where the inputs do not fill it
    for (int64_t block = 0; block < x.rows; block += TILED_TOGETHER) {
        const int64_t rows = std::min(x.rows - block, TILED_TOGETHER);
        for (int64_t panel = begin; panel < end; panel++) {
            const auto* weight = (const uint8_t*)matrix.weight + panel * panel_size;
            const auto add = [&](const uint8_t* at, int64_t first, int64_t count) {
                for (int64_t row = 0; row < rows; row += ROWS)
                    add_tiled_steps<P>(at, x, block + row, rows - row > TILE_ROWS, first, count, sums + row * PANEL);
            };
            std::fill_n(sums, Operands::allocated(rows) * PANEL, 0.0f);
            for (int64_t first = 0; first < whole; first += STEPS_TOGETHER)
                add(weight + first * STEP, first, std::min(whole - first, STEPS_TOGETHER));
            if (rest) {
                std::memcpy(last, weight + whole * STEP, size_t(rest));
                add(last, whole, 1);
            }
            emit_panel<P>(matrix, panel, block, rows, sums, emit);
        }
    }
}

#endif

// Computes the panels [begin, end) for all rows; `emit` as of `emit_panel`.
template <int32_t P, class Emit>
void multiply_panels(const Matrix& matrix, const Operands& x, int64_t begin, int64_t end, Emit emit) {
#if TILES
    if constexpr (P != FLOAT32)
        if (x.tiled) return multiply_tiled_panels<P>(matrix, x, begin, end, emit);
#endif
    const auto* weights = (const typename Weights<P>::Element*)matrix.weight;
    const int64_t inputs = matrix.inputs, panel_size = inputs * PANEL;
    float sums[GROUP * PANEL];
    for (int64_t panel = begin; panel < end; panel++) {
        const auto* weight = weights + panel * panel_size;
        for (int64_t row = 0, size; row < x.rows; row += size) {
            size = group_size(row, x.rows);
            const int64_t ahead = row && row + size == x.rows && panel + 1 < end ? panel_size : 0;
            const int32_t* at = x.at + row * (inputs / Weights<P>::R);
            const float* scale = x.scale + row * x.blocks();
            const int32_t* start = x.start + row * x.blocks();
            if (size == 8) multiply_panel<P, GROUP>(weight, inputs, at, scale, start, ahead, sums);
            else if (size == 4) multiply_panel<P, 4>(weight, inputs, at, scale, start, ahead, sums);
            else if (size == 2) multiply_panel<P, 2>(weight, inputs, at, scale, start, ahead, sums);
            else multiply_panel<P, 1>(weight, inputs, at, scale, start, ahead, sums);
            emit_panel<P>(matrix, panel, row, size, sums, emit);
        }
    }
}

// A thread's share [begin, end) of `count` items.
struct Share {
    int64_t begin, end;
    Share(int64_t count, int64_t thread, int64_t threads)
        : begin(count * thread / threads), end(count * (thread + 1) / threads) {}
};

Share panels(const Matrix& matrix, int64_t thread, int64_t threads) {
    return Share((matrix.outputs + PANEL - 1) / PANEL, thread, threads);
}

// Returns an `emit` that copies outputs to rows of `width`.
inline auto copy_to(float* out, int64_t width) {
    return [=](int64_t row, int64_t output, const float* values, int count) {
        std::copy_n(values, count, out + row * width + output);
    };
}

}  // namespace
