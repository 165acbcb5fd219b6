// Convolutions along time, and residual blocks of two of them, computed some rows at a time: both convolutions of a
// row, one after the other, so that what lies between them never leaves the processor's nearest memory.
//
// A row is a moment, with its channels beside each other. A convolution's weights follow each other, tap by tap, as the
// inputs of one matrix; rows beyond either end of the sequence are zeros. A block adds
// scale * pointwise(relu(dilated(relu(x)))) to x. An output is summed over taps and channels in their order, wherever
// the stretch begins that it is computed in.
//
// A *paired* convolution of three taps computes two rows that are its dilation apart from four products instead of six,
// of sums and differences of rows with sums and differences of taps: Winograd's F(2, 3) (Lavin and Gray 2015, section
// 4.1). For rows a, b, c, d that are a dilation apart and taps f, g, h, the outputs at b and c are
//     (a - c) f + (b + c) (f + g + h) / 2 + (c - b) (f - g + h) / 2    and
//                 (b + c) (f + g + h) / 2 - (c - b) (f - g + h) / 2 - (b - d) h.
//
// What is added up is float32. Where weights are bfloat16, what they multiply is rounded to it; where they are int8, to
// 8 bits of the largest of its row.

#include "products.h"

#include <vector>

extern "C" {

struct Rows {  // of a sequence: those that were kept of stretches before, then those of this one
    const float *kept, *fresh;
    int64_t kept_count, fresh_count;
    int64_t begin;  // where in the sequence the first of them is
};

struct Convolution {
    Matrix matrix;
    int64_t taps, before, dilation;  // `before` of the taps, `dilation` rows apart, come before the row itself
    int32_t paired;                  // the matrix has the four taps of pairs
};

void residual(const Convolution* dilated, const Convolution* pointwise, int32_t precision, const Rows* rows,
              int64_t first, int64_t stop, float scale, float* out, int64_t threads);
void convolve(const Convolution* convolution, int32_t precision, const Rows* rows, int64_t first, int64_t stop,
              float* out, int64_t threads);
}

namespace {

constexpr int64_t PRODUCTS = 4;          // of a pair; and the most taps
constexpr int64_t TILE = WIDE ? 12 : 4;  // rows that share one read of a weight
constexpr int64_t STRETCH = 8 * TILE;    // rows that go through a block before the next
constexpr int64_t HALF = STRETCH / 2;    // pairs that do

// How often the products count in the first and in the second row of a pair.
constexpr float FIRST[PRODUCTS] = {1, 1, 1, 0}, SECOND[PRODUCTS] = {0, 1, -1, -1};

// Rows as operands, one after the other: not interleaved as in `Operands`, which takes longer to lay out.
template <int32_t P> class Laid {
   public:
    explicit Laid(int64_t inputs)
        : stride(inputs / Weights<P>::R + LANES), memory(STRETCH * stride), rounded(P == INT8 ? STRETCH : 0) {}

    const int32_t* row(int64_t index) const { return memory.data() + index * stride; }
    const Rounded* scales(int64_t index) const { return rounded.data() + index; }

    // Lays numbers of a row out, or what is above zero in them, from input `at` on; with int8, all of a row at once.
    template <bool RELU> void lay(int64_t index, int64_t at, const float* values, int64_t count) {
        const auto value = [&](int64_t i) { return RELU && !(values[i] > 0) ? 0 : values[i]; };
        int32_t* to = memory.data() + index * stride + at / Weights<P>::R;
        if constexpr (P == FLOAT32)
            for (int64_t i = 0; i < count; i++) to[i] = int32_t(to_bits(value(i)));
        else if constexpr (P == BFLOAT16)
            for (int64_t i = 0; i < count / 2; i++)
                to[i] = int32_t(bfloat_bits(value(2 * i)) | bfloat_bits(value(2 * i + 1)) << 16);
        else
            rounded[index] = round_to_whole<RELU>(values, count, (int8_t*)to);
    }

    const int64_t stride;  // not a power of two, whose rows would compete for the same lines of a cache

   private:
    std::vector<int32_t> memory;
    std::vector<Rounded> rounded;
};

// Sums of TILE rows with a panel; `add` multiplies some inputs of the rows and adds to them.
template <int32_t P> struct Sums {
    using W = Weights<P>;
    typename W::Sum at[TILE][V];

    template <class Value> inline __attribute__((always_inline)) void each(Value value) {
#pragma GCC unroll 16
        for (int64_t m = 0; m < TILE; m++)
#pragma GCC unroll 2
            for (int v = 0; v < V; v++) value(at[m][v], m, v);
    }

    inline __attribute__((always_inline)) void add(const typename W::Element* weight, const int32_t* x, int64_t count,
                                                   int64_t stride) {
        const int32_t* from[TILE / 4];  // every fourth row: the three after it are reached from there
        for (int64_t four = 0; four < TILE / 4; four++) from[four] = x + 4 * four * stride;
        for (int64_t i = 0; i < count; i++, weight += W::R * PANEL) {
            decltype(W::read(weight)) read[V];
            for (int v = 0; v < V; v++) read[v] = W::read(weight + W::R * LANES * v);
            each([&](auto& sum, int64_t m, int v) { sum = W::add(sum, read[v], from[m / 4][m % 4 * stride]); });
            for (int64_t four = 0; four < TILE / 4; four++) from[four]++;
        }
    }

    // What the sums are of a product of one tap.
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

// What stands beside a panel's weights, of as many outputs.
struct Beside {
    float bias[PANEL] = {}, scale[PANEL] = {};  // `scale` of int8 weights
    static floats at(const float* values, int v) { return *(const floats*)(values + v * LANES); }
};

inline floats& sums_at(float* sums, int64_t m, int v) { return *(floats*)(sums + m * PANEL + v * LANES); }

// Multiplies TILE rows of every tap, laid out or zeros (null), with a panel, and adds the bias: sums is [TILE, PANEL].
// This is not to be inlined: the compiler would keep the caller's numbers in the registers, and the sums in memory.
template <int32_t P>
__attribute__((noinline)) void multiply_taps(const typename Weights<P>::Element* weight, const Beside& beside,
                                             int64_t count, const Laid<P>* const* taps, int64_t tap_count, int64_t row,
                                             float* sums) {
    Sums<P> sum;
    sum.each([&](auto& number, int64_t m, int v) {
        if constexpr (P == INT8) sums_at(sums, m, v) = floats{};
        else number = Beside::at(beside.bias, v);
    });
    for (int64_t tap = 0; tap < tap_count; tap++, weight += count * Weights<P>::R * PANEL) {
        if (!taps[tap]) continue;
        const Rounded* scales = taps[tap]->scales(row);
        if constexpr (P == INT8) sum.start(scales);
        sum.add(weight, taps[tap]->row(row), count, taps[tap]->stride);
        if constexpr (P == INT8)
            sum.each([&](ints number, int64_t m, int v) { sums_at(sums, m, v) += sum.number(number, scales, m); });
    }
    sum.each([&](auto number, int64_t m, int v) {
        floats& to = sums_at(sums, m, v);
        if constexpr (P == INT8) to = to * Beside::at(beside.scale, v) + Beside::at(beside.bias, v);
        else to = number;
    });
}

// Multiplies the four products of TILE pairs with a panel, and adds the bias: sums is [2, TILE, PANEL].
template <int32_t P>
__attribute__((noinline)) void multiply_pairs(const typename Weights<P>::Element* weight, const Beside& beside,
                                              int64_t count, const Laid<P>* products, int64_t row, float* sums) {
    float* const second = sums + TILE * PANEL;
    Sums<P> sum;
    std::fill_n(sums, 2 * TILE * PANEL, 0.0f);
    for (int64_t product = 0; product < PRODUCTS; product++, weight += count * Weights<P>::R * PANEL) {
        const Rounded* scales = products[product].scales(row);
        sum.start(scales);
        sum.add(weight, products[product].row(row), count, products[product].stride);
        sum.each([&](auto number, int64_t m, int v) {
            const floats value = sum.number(number, scales, m);
            sums_at(sums, m, v) += value * FIRST[product];
            sums_at(second, m, v) += value * SECOND[product];
        });
    }
    for (int64_t m = 0; m < 2 * TILE; m++)
        for (int v = 0; v < V; v++) {
            floats& to = sums_at(sums, m, v);
            to = (P == INT8 ? to * Beside::at(beside.scale, v) : to) + Beside::at(beside.bias, v);
        }
}

// Calls `tile(weight, what is beside it, first row)` for every panel of a matrix and every TILE of its rows, and then
// `take(row, first output, sums, count)` for each row of the sums that it returns.
template <int32_t P, class Tile, class Take>
void in_tiles(const Matrix& matrix, int64_t rows, Tile tile, Take take) {
    const auto* weight = (const typename Weights<P>::Element*)matrix.weight;
    Beside beside;
    for (int64_t output = 0; output < matrix.outputs; output += PANEL, weight += matrix.inputs * PANEL) {
        const int64_t outputs = std::min(PANEL, matrix.outputs - output);
        std::copy_n(matrix.bias + output, outputs, beside.bias);
        if (P == INT8) std::copy_n(matrix.scale + output, outputs, beside.scale);
        for (int64_t row = 0; row < rows; row += TILE) {
            const float* sums = tile(weight, beside, row);
            for (int64_t m = 0; m < std::min(TILE, rows - row); m++)
                // A number that is known here is worth a line of its own.
                if (outputs == PANEL) take(row + m, output, sums + m * PANEL, PANEL);
                else take(row + m, output, sums + m * PANEL, outputs);
        }
    }
}

// Multiplies rows of `taps` laid out, from `first` on, or zeros (null), with a matrix; gives outputs to `take` as
// `in_tiles` does.
template <int32_t P, class Take>
void multiply_rows(const Matrix& matrix, const Laid<P>* const* taps, int64_t tap_count, int64_t first, int64_t rows,
                   Take take) {
    const int64_t count = matrix.inputs / tap_count / Weights<P>::R;
    float sums[TILE * PANEL];
    const auto tile = [&](const auto* weight, const Beside& beside, int64_t row) {
        multiply_taps<P>(weight, beside, count, taps, tap_count, first + row, sums);
        return sums;
    };
    in_tiles<P>(matrix, rows, tile, take);
}

// A convolution, and what one thread needs to compute some of its rows. Rows are counted from the first kept.
template <int32_t P> class Filter {
   public:
    Filter(const Convolution& convolution, const Rows& rows)
        : convolution(convolution), rows(rows), channels(convolution.matrix.inputs / convolution.taps),
          taps(convolution.taps, Laid<P>(channels)), zeros(channels), room(channels) {}

    // Returns the numbers of a row.
    const float* at(int64_t row) const {
        if (row < 0 || row >= rows.kept_count + rows.fresh_count) return zeros.data();
        return row < rows.kept_count ? rows.kept + row * channels : rows.fresh + (row - rows.kept_count) * channels;
    }

    // Computes the rows [first, first + count), at most STRETCH of them, of x or of what is above zero in it; gives
    // them to `take` as `in_tiles` does.
    template <bool RELU, class Take> void compute(int64_t first, int64_t count, Take take) {
        const Laid<P>* heard[PRODUCTS];
        for (int64_t tap = 0; tap < convolution.taps; tap++) {
            const int64_t from = first + (tap - convolution.before) * convolution.dilation;
            heard[tap] = from + count <= 0 || from >= rows.kept_count + rows.fresh_count ? nullptr : &taps[tap];
            for (int64_t row = 0; heard[tap] && row < count; row++)
                taps[tap].template lay<RELU>(row, 0, at(from + row), channels);
        }
        multiply_rows<P>(convolution.matrix, heard, convolution.taps, 0, count, take);
    }

    // Computes pairs, at most HALF of them, of what is above zero in x; gives their first rows to `take` as the rows
    // from 0 on, and their second as those from HALF on.
    template <class Take> void compute_pairs(const int64_t* firsts, int64_t count, Take take) {
        const auto relu = [](float value) { return value > 0 ? value : 0; };
        const auto lay = [&](int64_t product, int64_t pair, const float* plus, const float* other, float sign) {
            for (int64_t i = 0; i < channels; i++) room[i] = relu(plus[i]) + sign * relu(other[i]);
            taps[product].template lay<false>(pair, 0, room.data(), channels);
        };
        for (int64_t pair = 0; pair < count; pair++) {
            const float* x[PRODUCTS];
            for (int64_t row = 0; row < PRODUCTS; row++) x[row] = at(firsts[pair] + (row - 1) * convolution.dilation);
            lay(0, pair, x[0], x[2], -1);
            lay(1, pair, x[1], x[2], 1);
            lay(2, pair, x[2], x[1], -1);
            lay(3, pair, x[1], x[3], -1);
        }
        float sums[2 * TILE * PANEL];
        const auto tile = [&](const auto* weight, const Beside& beside, int64_t row) {
            multiply_pairs<P>(weight, beside, channels / Weights<P>::R, taps.data(), row, sums);
            return sums;
        };
        const auto both = [&](int64_t row, int64_t output, const float* values, int64_t outputs) {
            take(row, output, values, outputs);
            take(row + HALF, output, values + TILE * PANEL, outputs);
        };
        in_tiles<P>(convolution.matrix, count, tile, both);
    }

    // Returns the first rows of all pairs that rows of [first, stop) belong to. Pairs are the same wherever a stretch
    // begins: of each two dilations of rows of the sequence, those of the one with those of the other.
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
    std::vector<Laid<P>> taps;
    std::vector<float> zeros, room;
};

template <int32_t P> class Block {
   public:
    Block(const Convolution& dilated, const Convolution& pointwise, const Rows& rows, float scale)
        : dilated(dilated, rows), pointwise(pointwise.matrix), scale(scale), hidden(pointwise.matrix.inputs),
          whole(P == INT8 ? STRETCH * pointwise.matrix.inputs : 0) {}

    // Computes the rows [first, first + count), at most STRETCH of them; row r goes to `to(r)`.
    template <class To> void compute(int64_t first, int64_t count, To to) {
        dilated.template compute<true>(first, count, keep());
        update(0, count, [&](int64_t row) { return first + row; }, to);
    }

    // Computes pairs, at most HALF of them; row r goes to `to(r)`, unless that is null.
    template <class To> void compute_pairs(const int64_t* firsts, int64_t count, To to) {
        dilated.compute_pairs(firsts, count, keep());
        update(0, count, [&](int64_t row) { return firsts[row]; }, to);
        update(HALF, count, [&](int64_t row) { return firsts[row] + dilated.convolution.dilation; }, to);
    }

    std::vector<int64_t> pairs(int64_t first, int64_t stop) const { return dilated.pairs(first, stop); }

   private:
    Filter<P> dilated;
    const Matrix& pointwise;
    const float scale;
    Laid<P> hidden;
    std::vector<float> whole;  // hidden rows, which are rounded once all of a row is there

    // Returns what takes hidden rows.
    auto keep() {
        return [&](int64_t row, int64_t output, const float* sums, int64_t outputs) {
            if (P == INT8) std::copy_n(sums, outputs, whole.data() + row * pointwise.inputs + output);
            else hidden.template lay<true>(row, output, sums, outputs);
        };
    }

    // Multiplies the hidden rows from `from` on and adds them to x; they are the rows `row_of(0)`, `row_of(1)`, ...
    template <class RowOf, class To> void update(int64_t from, int64_t count, RowOf row_of, To to) {
        for (int64_t row = from; row < from + count && P == INT8; row++)
            hidden.template lay<true>(row, 0, whole.data() + row * pointwise.inputs, pointwise.inputs);
        const Laid<P>* const between[] = {&hidden};
        const auto add = [&](int64_t row, int64_t output, const float* sums, int64_t outputs) {
            const float* x = dilated.at(row_of(row)) + output;
            float* out = to(row_of(row));
            for (int64_t i = 0; out && i < outputs; i++) out[output + i] = x[i] + scale * sums[i];
        };
        multiply_rows<P>(pointwise, between, 1, from, count, add);
    }
};

// Gives `count` things, at most `most` at once, to `compute(first, count)` of a worker that each thread makes for
// itself.
template <class Make> void share_out(int64_t count, int64_t most, int64_t threads, Make make) {
#pragma omp parallel num_threads(int(threads))
    {
        auto compute = make();
#pragma omp for schedule(dynamic)
        for (int64_t first = 0; first < count; first += most) compute(first, std::min(most, count - first));
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
    if (dilated.paired) share_out(int64_t(pairs.size()), HALF, threads, compute);
    else share_out(stop - first, STRETCH, threads, compute);
}

template <int32_t P>
void convolve_rows(const Convolution& convolution, const Rows& rows, int64_t first, int64_t stop, float* out,
                   int64_t threads) {
    const int64_t outputs = convolution.matrix.outputs;
    share_out(stop - first, STRETCH, threads, [&] {
        return [&, filter = Filter<P>(convolution, rows)](int64_t from, int64_t count) mutable {
            filter.template compute<false>(first + from, count, copy_to(out + from * outputs, outputs));
        };
    });
}

}  // namespace

// Computes out [stop - first, channels]: the block's outputs at those rows, counted from the first kept.
void residual(const Convolution* dilated, const Convolution* pointwise, int32_t precision, const Rows* rows,
              int64_t first, int64_t stop, float scale, float* out, int64_t threads) {
    const auto work = precision == FLOAT32    ? residual_rows<FLOAT32>
                      : precision == BFLOAT16 ? residual_rows<BFLOAT16>
                                              : residual_rows<INT8>;
    work(*dilated, *pointwise, *rows, first, stop, scale, out, threads);
}

// Computes out [stop - first, O]: the convolution's outputs at those rows, counted from the first kept.
void convolve(const Convolution* convolution, int32_t precision, const Rows* rows, int64_t first, int64_t stop,
              float* out, int64_t threads) {
    const auto work = precision == FLOAT32    ? convolve_rows<FLOAT32>
                      : precision == BFLOAT16 ? convolve_rows<BFLOAT16>
                                              : convolve_rows<INT8>;
    work(*convolution, *rows, first, stop, out, threads);
}
