// Residual blocks of convolutions along time, computed some rows at a time: both convolutions of a row, one after the
// other, so that what lies between them never leaves the processor's nearest memory.
//
// A row is a moment, with its channels beside each other. A block adds scale * pointwise(relu(dilated(relu(x)))) to x;
// its dilated convolution has TAPS taps, and their weights follow each other as the inputs of one matrix. Rows beyond
// either end of the sequence are zeros. An output is summed over taps and channels in their order, wherever the stretch
// begins that it is computed in.
//
// What is added up is float32; where weights are bfloat16, what they multiply is rounded to it.

#include "products.h"

#include <vector>

extern "C" {

struct Rows {  // of a sequence: those that were kept of stretches before, then those of this one
    const float *kept, *fresh;
    int64_t kept_count, fresh_count;
};

void residual(const Matrix* dilated, const Matrix* pointwise, int32_t precision, const Rows* rows, int64_t channels,
              int64_t first, int64_t stop, int64_t dilation, float scale, float* out, int64_t threads);
}

namespace {

constexpr int64_t TAPS = 3;
constexpr int64_t TILE = WIDE ? 12 : 4;  // rows that share one read of a weight
constexpr int64_t STRETCH = 8 * TILE;    // rows that go through both convolutions before the next

// Rows as operands, one after the other: not interleaved as in `Operands`, which takes longer to lay out.
class Laid {
   public:
    Laid(int64_t inputs, int64_t beside) : stride(inputs / beside + LANES), memory(STRETCH * stride) {}
    int32_t* row(int64_t index) { return memory.data() + index * stride; }
    const int64_t stride;  // not a power of two, whose rows would compete for the same lines of a cache

   private:
    std::vector<int32_t> memory;
};

// Lays out a row, of which what is below zero counts as zero.
template <int32_t P> void lay(const float* values, int64_t count, int32_t* to) {
    const auto positive = [&](int64_t i) { return values[i] > 0 ? values[i] : 0; };
    if (P == FLOAT32)
        for (int64_t i = 0; i < count; i++) to[i] = int32_t(to_bits(positive(i)));
    else
        for (int64_t i = 0; i < count / 2; i++)
            to[i] = int32_t(bfloat_bits(positive(2 * i)) | bfloat_bits(positive(2 * i + 1)) << 16);
}

// Multiplies TILE rows of every tap with a panel: sums is [TILE, PANEL], and begins with the bias. A tap that is null is
// zeros. This is not to be inlined: the compiler would keep the caller's numbers in the registers, and the sums in memory.
template <int32_t P>
__attribute__((noinline)) void multiply_tile(const typename Weights<P>::Element* weight, const float* bias,
                                             int64_t count, int64_t stride, const int32_t* const* taps,
                                             int64_t tap_count, float* sums) {
    using W = Weights<P>;
    floats sum[TILE][V];
#pragma GCC unroll 16
    for (int64_t m = 0; m < TILE; m++)
#pragma GCC unroll 2
        for (int v = 0; v < V; v++) sum[m][v] = *(const floats*)(bias + v * LANES);
    for (int64_t tap = 0; tap < tap_count; tap++) {
        if (!taps[tap]) {
            weight += count * W::R * PANEL;
            continue;
        }
        const int32_t* at[TILE / 4];  // every fourth row: the three after it are reached from there
        for (int64_t four = 0; four < TILE / 4; four++) at[four] = taps[tap] + 4 * four * stride;
        for (int64_t i = 0; i < count; i++, weight += W::R * PANEL) {
            decltype(W::read(weight)) read[V];
            for (int v = 0; v < V; v++) read[v] = W::read(weight + W::R * LANES * v);
#pragma GCC unroll 16
            for (int64_t m = 0; m < TILE; m++)
#pragma GCC unroll 2
                for (int v = 0; v < V; v++) sum[m][v] = W::add(sum[m][v], read[v], at[m / 4][m % 4 * stride]);
            for (int64_t four = 0; four < TILE / 4; four++) at[four]++;
        }
    }
#pragma GCC unroll 16
    for (int64_t m = 0; m < TILE; m++)
#pragma GCC unroll 2
        for (int v = 0; v < V; v++) *(floats*)(sums + m * PANEL + v * LANES) = sum[m][v];
}

// Multiplies the first `rows` of `taps` laid out with a matrix; gives `count` outputs of a row at once to
// `take(row, first output, sums, count)`.
template <int32_t P, class Take>
void convolve(const Matrix& matrix, Laid* const* taps, int64_t tap_count, int64_t stride, int64_t rows,
              Take take) {
    const int64_t count = matrix.inputs / tap_count / Weights<P>::R;
    const auto* weight = (const typename Weights<P>::Element*)matrix.weight;
    const int32_t* at[TAPS];
    float bias[PANEL] = {}, sums[TILE * PANEL];
    for (int64_t output = 0; output < matrix.outputs; output += PANEL, weight += matrix.inputs * PANEL) {
        const int64_t outputs = std::min(PANEL, matrix.outputs - output);
        std::copy_n(matrix.bias + output, outputs, bias);
        for (int64_t row = 0; row < rows; row += TILE) {
            for (int64_t tap = 0; tap < tap_count; tap++) at[tap] = taps[tap] ? taps[tap]->row(row) : nullptr;
            multiply_tile<P>(weight, bias, count, stride, at, tap_count, sums);
            for (int64_t m = 0; m < std::min(TILE, rows - row); m++) {
                const float* from = sums + m * PANEL;
                if (outputs == PANEL) take(row + m, output, from, PANEL);  // a number known here is worth it
                else take(row + m, output, from, outputs);
            }
        }
    }
}

template <int32_t P> class Block {
   public:
    Block(const Matrix& dilated, const Matrix& pointwise, const Rows& rows, int64_t channels, int64_t dilation)
        : dilated(dilated), pointwise(pointwise), rows(rows), channels(channels), dilation(dilation),
          hidden(dilated.outputs, Weights<P>::R), taps(TAPS, Laid(channels, Weights<P>::R)) {}

    // Computes the rows [first, first + count), at most STRETCH of them.
    void compute(int64_t first, int64_t count, float scale, float* out) {
        Laid* heard[TAPS];
        for (int64_t tap = 0; tap < TAPS; tap++) {
            const int64_t from = first + (tap - TAPS / 2) * dilation;
            heard[tap] = from + count <= 0 || from >= rows.kept_count + rows.fresh_count ? nullptr : &taps[tap];
            if (heard[tap]) lay_rows(from, count, taps[tap]);
        }
        convolve<P>(dilated, heard, TAPS, taps[0].stride, count, [&](int64_t row, int64_t output, const float* sums, int64_t outputs) {
            lay<P>(sums, outputs, hidden.row(row) + output / Weights<P>::R);
        });
        Laid* between[] = {&hidden};
        convolve<P>(pointwise, between, 1, hidden.stride, count, [&](int64_t row, int64_t output, const float* sums, int64_t outputs) {
            const float* x = at(first + row) + output;
            float* to = out + row * channels + output;
            for (int64_t i = 0; i < outputs; i++) to[i] = x[i] + scale * sums[i];
        });
    }

   private:
    const Matrix &dilated, &pointwise;
    const Rows& rows;
    int64_t channels, dilation;
    Laid hidden;
    std::vector<Laid> taps;

    const float* at(int64_t row) const {
        return row < rows.kept_count ? rows.kept + row * channels : rows.fresh + (row - rows.kept_count) * channels;
    }

    void lay_rows(int64_t first, int64_t count, Laid& to) {
        for (int64_t row = 0; row < count; row++) {
            const int64_t from = first + row;
            if (from < 0 || from >= rows.kept_count + rows.fresh_count)
                std::fill_n(to.row(row), channels / Weights<P>::R, 0);
            else
                lay<P>(at(from), channels, to.row(row));
        }
    }
};

template <int32_t P>
void compute(const Matrix& dilated, const Matrix& pointwise, const Rows& rows, int64_t channels, int64_t first,
             int64_t stop, int64_t dilation, float scale, float* out, int64_t threads) {
#pragma omp parallel num_threads(int(threads))
    {
        Block<P> block(dilated, pointwise, rows, channels, dilation);
#pragma omp for schedule(dynamic)
        for (int64_t row = first; row < stop; row += STRETCH)
            block.compute(row, std::min(STRETCH, stop - row), scale, out + (row - first) * channels);
    }
}

}  // namespace

// Computes out [stop - first, channels]: the block's outputs at those rows, counted from the first kept.
void residual(const Matrix* dilated, const Matrix* pointwise, int32_t precision, const Rows* rows, int64_t channels,
              int64_t first, int64_t stop, int64_t dilation, float scale, float* out, int64_t threads) {
    const auto work = precision == FLOAT32 ? compute<FLOAT32> : compute<BFLOAT16>;
    work(*dilated, *pointwise, *rows, channels, first, stop, dilation, scale, out, threads);
}
