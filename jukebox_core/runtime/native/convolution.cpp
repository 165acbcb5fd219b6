// Convolutions along time, and residual blocks of two of them, fused: both convolutions are computed for a tile of rows
// at a time, so that the hidden activations stay in the first-level cache.
//
// A row is one time step, with contiguous channels. The weights of a convolution are one matrix, whose inputs are the
// channels of the taps, one tap after the other; rows beyond either end of the sequence are zeros. A block adds
// scale * pointwise(relu(dilated(relu(x)))) to x. An output is summed over taps and channels in order, independently of
// tiles and chunks.
//
// A *paired* convolution of three taps computes two rows that are its dilation apart from four products instead of six,
// of sums and differences of rows with sums and differences of taps: Winograd's F(2, 3) (Lavin and Gray 2015, section
// 4.1). For rows a, b, c, d that are a dilation apart and taps f, g, h, the outputs at b and c are
//     (a - c) f + (b + c) (f + g + h) / 2 + (c - b) (f - g + h) / 2    and
//                 (b + c) (f + g + h) / 2 - (c - b) (f - g + h) / 2 - (b - d) h.
//
// Sums are float32. With bfloat16 weights the activations are rounded to bfloat16; with int8 weights they are quantised
// to int8 with a scale for each row.

#include "products.h"

#include <vector>

extern "C" {

struct Rows {  // of a sequence: those buffered from earlier chunks, then those of this one
    const float *buffered, *incoming;
    int64_t buffered_count, incoming_count;
    int64_t begin;  // position in the sequence of the first of them
};

struct Convolution {
    Matrix matrix;
    int64_t taps, before, dilation;  // `before` of the taps, `dilation` rows apart, come before the row itself
    int32_t paired;                  // the matrix has the four Winograd taps
};

void residual(const Convolution* dilated, const Convolution* pointwise, int32_t precision, const Rows* rows,
              int64_t first, int64_t stop, float scale, float* out, int64_t threads);
void convolve(const Convolution* convolution, int32_t precision, const Rows* rows, int64_t first, int64_t stop,
              float* out, int64_t threads);
}

namespace {

constexpr int64_t PRODUCTS = 4;          // of a pair; also the maximum number of taps
constexpr int64_t TILE = WIDE ? 12 : 4;  // rows that share one read of a weight
constexpr int64_t CHUNK = 8 * TILE;      // rows that are computed by one call of a worker
constexpr int64_t HALF = CHUNK / 2;      // pairs of them

// Coefficients of the products in the first and in the second row of a pair.
constexpr float FIRST[PRODUCTS] = {1, 1, 1, 0}, SECOND[PRODUCTS] = {0, 1, -1, -1};

// Rows as operands, one after the other: faster to fill than the interleaved layout of `Operands`.
template <int32_t P> class RowOperands {
   public:
    explicit RowOperands(int64_t inputs)
        : stride(inputs / Weights<P>::R + LANES), memory(CHUNK * stride), rounded(P == INT8 ? CHUNK : 0) {}

    const int32_t* row(int64_t index) const { return memory.data() + index * stride; }
    const Rounded* scales(int64_t index) const { return rounded.data() + index; }

    // Converts values of a row, after an optional ReLU, from input `at` on; with int8, all of the row at once.
    template <bool RELU> void set(int64_t index, int64_t at, const float* values, int64_t count) {
        const auto value = [&](int64_t i) { return RELU && !(values[i] > 0) ? 0 : values[i]; };
        int32_t* to = memory.data() + index * stride + at / Weights<P>::R;
        if constexpr (P == FLOAT32)
            for (int64_t i = 0; i < count; i++) to[i] = int32_t(to_bits(value(i)));
        else if constexpr (P == BFLOAT16)
            for (int64_t i = 0; i < count / 2; i++)
                to[i] = int32_t(bfloat_bits(value(2 * i)) | bfloat_bits(value(2 * i + 1)) << 16);
        else
            rounded[index] = quantise_int8<RELU>(values, count, (int8_t*)to);
    }

    const int64_t stride;  // not a power of two: rows would map to the same cache sets

   private:
    std::vector<int32_t> memory;
    std::vector<Rounded> rounded;
};

// Sums of TILE rows with vectors of a panel; `add` multiplies some inputs of the rows and adds to them.
template <int32_t P> struct Sums {
    using W = Weights<P>;
    typename W::Sum at[TILE][TOGETHER];

    template <class Value> inline __attribute__((always_inline)) void each(Value value) {
#pragma GCC unroll 16
        for (int64_t m = 0; m < TILE; m++)
#pragma GCC unroll 2
            for (int v = 0; v < TOGETHER; v++) value(at[m][v], m, v);
    }

    inline __attribute__((always_inline)) void add(const typename W::Element* weight, const int32_t* x, int64_t count,
                                                   int64_t stride) {
        const int32_t* from[TILE / 4];  // every fourth row: the next three are addressed from it
        for (int64_t four = 0; four < TILE / 4; four++) from[four] = x + 4 * four * stride;
        for (int64_t i = 0; i < count; i++, weight += W::R * PANEL) {
            decltype(W::read(weight)) read[TOGETHER];
            for (int v = 0; v < TOGETHER; v++) read[v] = W::read(weight + W::R * LANES * v);
            each([&](auto& sum, int64_t m, int v) { sum = W::add(sum, read[v], from[m / 4][m % 4 * stride]); });
            for (int64_t four = 0; four < TILE / 4; four++) from[four]++;
        }
    }

    // Initialises the sums for one tap.
    inline __attribute__((always_inline)) void start(const Rounded* scales) {
        each([&](auto& sum, int64_t m, int) {
            if constexpr (P == INT8) sum = ints{} + scales[m].start;
            else sum = floats{};
        });
    }
    static floats number(typename W::Sum sum, const Rounded* scales, int64_t m) {
        if constexpr (P == INT8) return W::number(sum) * scales[m].scale;
        else return sum;
    }
};

// Scale and bias that are applied to the sums of a panel.
struct Epilogue {
    float bias[PANEL] = {}, scale[PANEL] = {};  // `scale` of int8 weights
    static floats at(const float* values, int v) { return *(const floats*)(values + v * LANES); }
};

inline floats& sums_at(float* sums, int64_t m, int v) { return *(floats*)(sums + m * PANEL + v * LANES); }

// Multiplies TILE rows of every tap (null: zeros) with the vectors of a panel from `first` on, and adds the bias: sums
// is [TILE, PANEL]. Not inlined: the compiler would keep the caller's variables in registers, and spill the sums.
template <int32_t P>
__attribute__((noinline)) void multiply_taps(const typename Weights<P>::Element* weight, const Epilogue& epilogue,
                                             int first, int64_t count, const RowOperands<P>* const* taps, int64_t tap_count,
                                             int64_t row, float* sums) {
    Sums<P> sum;
    weight += Weights<P>::R * LANES * first;
    sum.each([&](auto& number, int64_t m, int v) {
        if constexpr (P == INT8) sums_at(sums, m, first + v) = floats{};
        else number = Epilogue::at(epilogue.bias, first + v);
    });
    for (int64_t tap = 0; tap < tap_count; tap++, weight += count * Weights<P>::R * PANEL) {
        if (!taps[tap]) continue;
        const Rounded* scales = taps[tap]->scales(row);
        if constexpr (P == INT8) sum.start(scales);
        sum.add(weight, taps[tap]->row(row), count, taps[tap]->stride);
        if constexpr (P == INT8)
            sum.each([&](ints number, int64_t m, int v) { sums_at(sums, m, first + v) += sum.number(number, scales, m); });
    }
    sum.each([&](auto number, int64_t m, int v) {
        floats& to = sums_at(sums, m, first + v);
        if constexpr (P == INT8) to = to * Epilogue::at(epilogue.scale, first + v) + Epilogue::at(epilogue.bias, first + v);
        else to = number;
    });
}

// Multiplies the four products of TILE pairs with the vectors of a panel from `first` on, and adds the bias: sums is
// [2, TILE, PANEL], of zeros.
template <int32_t P>
__attribute__((noinline)) void multiply_pairs(const typename Weights<P>::Element* weight, const Epilogue& epilogue,
                                              int first, int64_t count, const RowOperands<P>* products, int64_t row, float* sums) {
    float* const second = sums + TILE * PANEL;
    Sums<P> sum;
    weight += Weights<P>::R * LANES * first;
    for (int64_t product = 0; product < PRODUCTS; product++, weight += count * Weights<P>::R * PANEL) {
        const Rounded* scales = products[product].scales(row);
        sum.start(scales);
        sum.add(weight, products[product].row(row), count, products[product].stride);
        sum.each([&](auto number, int64_t m, int v) {
            const floats value = sum.number(number, scales, m);
            sums_at(sums, m, first + v) += value * FIRST[product];
            sums_at(second, m, first + v) += value * SECOND[product];
        });
    }
    for (int64_t m = 0; m < 2 * TILE; m++)
        for (int v = first; v < first + TOGETHER; v++) {
            floats& to = sums_at(sums, m, v);
            to = (P == INT8 ? to * Epilogue::at(epilogue.scale, v) : to) + Epilogue::at(epilogue.bias, v);
        }
}

// Calls `tile(weight, epilogue, first row)` for every panel of a matrix and every TILE of its rows, and then
// `emit(row, first output, sums, count)` for each row of the sums that it returns.
template <int32_t P, class Tile, class Emit>
void in_tiles(const Matrix& matrix, int64_t rows, Tile tile, Emit emit) {
    const auto* weight = (const typename Weights<P>::Element*)matrix.weight;
    Epilogue epilogue;
    for (int64_t output = 0; output < matrix.outputs; output += PANEL, weight += matrix.inputs * PANEL) {
        const int64_t outputs = std::min(PANEL, matrix.outputs - output);
        std::copy_n(matrix.bias + output, outputs, epilogue.bias);
        if (P == INT8) std::copy_n(matrix.scale + output, outputs, epilogue.scale);
        for (int64_t row = 0; row < rows; row += TILE) {
            const float* sums = tile(weight, epilogue, row);
            for (int64_t m = 0; m < std::min(TILE, rows - row); m++)
                // The compiler unrolls for the constant.
                if (outputs == PANEL) emit(row + m, output, sums + m * PANEL, PANEL);
                else emit(row + m, output, sums + m * PANEL, outputs);
        }
    }
}

// Multiplies rows of `taps` (null: zeros) from `first` on with a matrix; calls `emit` as `in_tiles` does.
template <int32_t P, class Emit>
void multiply_rows(const Matrix& matrix, const RowOperands<P>* const* taps, int64_t tap_count, int64_t first,
                   int64_t rows, Emit emit) {
    const int64_t count = matrix.inputs / tap_count / Weights<P>::R;
    float sums[TILE * PANEL];
    const auto tile = [&](const auto* weight, const Epilogue& epilogue, int64_t row) {
        for (int vector = 0; vector < V; vector += TOGETHER)
            multiply_taps<P>(weight, epilogue, vector, count, taps, tap_count, first + row, sums);
        return sums;
    };
    in_tiles<P>(matrix, rows, tile, emit);
}

// A convolution with one thread's buffers. Rows are counted from the first buffered one of the sequence.
template <int32_t P> class Filter {
   public:
    Filter(const Convolution& convolution, const Rows& rows)
        : convolution(convolution), rows(rows), channels(convolution.matrix.inputs / convolution.taps),
          taps(convolution.taps, RowOperands<P>(channels)), zeros(channels), sums_of_rows(channels) {}

    // Returns the channels of a row.
    const float* at(int64_t row) const {
        if (row < 0 || row >= rows.buffered_count + rows.incoming_count) return zeros.data();
        if (row < rows.buffered_count) return rows.buffered + row * channels;
        return rows.incoming + (row - rows.buffered_count) * channels;
    }

    // Computes the rows [first, first + count), at most CHUNK of them, of x after an optional ReLU; calls `emit` as
    // `in_tiles` does.
    template <bool RELU, class Emit> void compute(int64_t first, int64_t count, Emit emit) {
        const RowOperands<P>* inputs[PRODUCTS];
        for (int64_t tap = 0; tap < convolution.taps; tap++) {
            const int64_t from = first + (tap - convolution.before) * convolution.dilation;
            inputs[tap] = from + count <= 0 || from >= rows.buffered_count + rows.incoming_count ? nullptr : &taps[tap];
            for (int64_t row = 0; inputs[tap] && row < count; row++)
                taps[tap].template set<RELU>(row, 0, at(from + row), channels);
        }
        multiply_rows<P>(convolution.matrix, inputs, convolution.taps, 0, count, emit);
    }

    // Computes pairs, at most HALF of them, of relu(x); calls `emit` for their first rows as rows from 0 on, and for
    // their second rows as rows from HALF on.
    template <class Emit> void compute_pairs(const int64_t* firsts, int64_t count, Emit emit) {
        const auto relu = [](float value) { return value > 0 ? value : 0; };
        const auto set = [&](int64_t product, int64_t pair, const float* plus, const float* other, float sign) {
            for (int64_t i = 0; i < channels; i++) sums_of_rows[i] = relu(plus[i]) + sign * relu(other[i]);
            taps[product].template set<false>(pair, 0, sums_of_rows.data(), channels);
        };
        for (int64_t pair = 0; pair < count; pair++) {
            const float* x[PRODUCTS];
            for (int64_t row = 0; row < PRODUCTS; row++) x[row] = at(firsts[pair] + (row - 1) * convolution.dilation);
            set(0, pair, x[0], x[2], -1);
            set(1, pair, x[1], x[2], 1);
            set(2, pair, x[2], x[1], -1);
            set(3, pair, x[1], x[3], -1);
        }
        float sums[2 * TILE * PANEL];
        const auto tile = [&](const auto* weight, const Epilogue& epilogue, int64_t row) {
            std::fill_n(sums, 2 * TILE * PANEL, 0.0f);
            for (int vector = 0; vector < V; vector += TOGETHER)
                multiply_pairs<P>(weight, epilogue, vector, channels / Weights<P>::R, taps.data(), row, sums);
            return sums;
        };
        const auto both = [&](int64_t row, int64_t output, const float* values, int64_t outputs) {
            emit(row, output, values, outputs);
            emit(row + HALF, output, values + TILE * PANEL, outputs);
        };
        in_tiles<P>(convolution.matrix, count, tile, both);
    }

    // Returns the first rows of all pairs that rows of [first, stop) belong to. Pairs do not depend on the chunks: of
    // every 2 * dilation rows of the sequence, the first half is paired with the second.
    std::vector<int64_t> pairs(int64_t first, int64_t stop) const {
        const int64_t dilation = convolution.dilation, begin = rows.begin + first, end = rows.begin + stop;
        std::vector<int64_t> firsts;
        for (int64_t block = begin / (2 * dilation) * 2 * dilation; block < end; block += 2 * dilation)
            for (int64_t row = block; row < std::min(block + dilation, end); row++)
                if (row >= begin || (row + dilation >= begin && row + dilation < end))
                    firsts.push_back(row - rows.begin);
        return firsts;
    }

    const Convolution& convolution;
    const Rows& rows;
    const int64_t channels;

   private:
    std::vector<RowOperands<P>> taps;
    std::vector<float> zeros, sums_of_rows;
};

// A residual block with one thread's buffers.
template <int32_t P> class Block {
   public:
    Block(const Convolution& dilated, const Convolution& pointwise, const Rows& rows, float scale)
        : dilated(dilated, rows), pointwise(pointwise.matrix), scale(scale), hidden(pointwise.matrix.inputs),
          whole(P == INT8 ? CHUNK * pointwise.matrix.inputs : 0) {}

    // Computes the rows [first, first + count), at most CHUNK of them; row r goes to `to(r)`.
    template <class To> void compute(int64_t first, int64_t count, To to) {
        dilated.template compute<true>(first, count, to_hidden());
        update(0, count, [&](int64_t row) { return first + row; }, to);
    }

    // Computes pairs, at most HALF of them; row r goes to `to(r)`, unless that is null.
    template <class To> void compute_pairs(const int64_t* firsts, int64_t count, To to) {
        dilated.compute_pairs(firsts, count, to_hidden());
        update(0, count, [&](int64_t row) { return firsts[row]; }, to);
        update(HALF, count, [&](int64_t row) { return firsts[row] + dilated.convolution.dilation; }, to);
    }

    std::vector<int64_t> pairs(int64_t first, int64_t stop) const { return dilated.pairs(first, stop); }

   private:
    Filter<P> dilated;
    const Matrix& pointwise;
    const float scale;
    RowOperands<P> hidden;
    std::vector<float> whole;  // hidden rows: with int8, a row is quantised when all of it is computed

    // Returns an `emit` that stores hidden rows.
    auto to_hidden() {
        return [&](int64_t row, int64_t output, const float* sums, int64_t outputs) {
            if (P == INT8) std::copy_n(sums, outputs, whole.data() + row * pointwise.inputs + output);
            else hidden.template set<true>(row, output, sums, outputs);
        };
    }

    // Adds the pointwise convolution of the hidden rows from `from` on to x; hidden row r is row `row_of(r)` of x.
    template <class RowOf, class To> void update(int64_t from, int64_t count, RowOf row_of, To to) {
        for (int64_t row = from; row < from + count && P == INT8; row++)
            hidden.template set<true>(row, 0, whole.data() + row * pointwise.inputs, pointwise.inputs);
        const RowOperands<P>* const inputs[] = {&hidden};
        const auto add = [&](int64_t row, int64_t output, const float* sums, int64_t outputs) {
            const float* x = dilated.at(row_of(row)) + output;
            float* out = to(row_of(row));
            for (int64_t i = 0; out && i < outputs; i++) out[output + i] = x[i] + scale * sums[i];
        };
        multiply_rows<P>(pointwise, inputs, 1, from, count, add);
    }
};

// Divides `count` items into chunks of `size`, and calls `compute(first, count)` for each; every thread makes its own
// `compute`.
template <class Make> void parallel_chunks(int64_t count, int64_t size, int64_t threads, Make make) {
#pragma omp parallel num_threads(int(threads))
    {
        auto compute = make();
#pragma omp for schedule(dynamic)
        for (int64_t first = 0; first < count; first += size) compute(first, std::min(size, count - first));
    }
}

template <int32_t P>
void residual_rows(const Convolution& dilated, const Convolution& pointwise, const Rows& rows, int64_t first,
                   int64_t stop, float scale, float* out, int64_t threads) {
    const auto to = [=, width = pointwise.matrix.outputs](int64_t row) {
        return row < first || row >= stop ? nullptr : out + (row - first) * width;
    };
    const Block<P> made(dilated, pointwise, rows, scale);
    const auto pairs = dilated.paired ? made.pairs(first, stop) : std::vector<int64_t>();
    const auto compute = [&] {
        return [&, block = made](int64_t from, int64_t count) mutable {
            if (dilated.paired) block.compute_pairs(pairs.data() + from, count, to);
            else block.compute(first + from, count, to);
        };
    };
    if (dilated.paired) parallel_chunks(int64_t(pairs.size()), HALF, threads, compute);
    else parallel_chunks(stop - first, CHUNK, threads, compute);
}

template <int32_t P>
void convolve_rows(const Convolution& convolution, const Rows& rows, int64_t first, int64_t stop, float* out,
                   int64_t threads) {
    const int64_t outputs = convolution.matrix.outputs;
    parallel_chunks(stop - first, CHUNK, threads, [&] {
        return [&, filter = Filter<P>(convolution, rows)](int64_t from, int64_t count) mutable {
            filter.template compute<false>(first + from, count, copy_to(out + from * outputs, outputs));
        };
    });
}

}  // namespace

// Computes out [stop - first, channels], the block's outputs of those rows, counted from the first buffered one.
void residual(const Convolution* dilated, const Convolution* pointwise, int32_t precision, const Rows* rows,
              int64_t first, int64_t stop, float scale, float* out, int64_t threads) {
    const auto work = precision == FLOAT32    ? residual_rows<FLOAT32>
                      : precision == BFLOAT16 ? residual_rows<BFLOAT16>
                                              : residual_rows<INT8>;
    work(*dilated, *pointwise, *rows, first, stop, scale, out, threads);
}

// Computes out [stop - first, O], the convolution's outputs of those rows, counted from the first buffered one.
void convolve(const Convolution* convolution, int32_t precision, const Rows* rows, int64_t first, int64_t stop,
              float* out, int64_t threads) {
    const auto work = precision == FLOAT32    ? convolve_rows<FLOAT32>
                      : precision == BFLOAT16 ? convolve_rows<BFLOAT16>
                                              : convolve_rows<INT8>;
    work(*convolution, *rows, first, stop, out, threads);
}
