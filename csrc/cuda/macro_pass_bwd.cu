#include "batch_entry.h"
#include "launch.h"
#include "mainloop.h"
#include "number_bytes.h"
#include "runtime.h"
#include "tensor_maps.h"

namespace contrastive_ops::cuda {
namespace {

// One entry of the batch.
class EntryPass {
 public:
  EntryPass(const MacroPaths& paths, const MacroPassParams& of, int64_t batch, Stream& stream)
      : paths_(paths), of_(of), batch_(batch), matrix_(entry_of(of.matrix, batch)), stream_(stream) {}

  void run() {
    stream_.tensor_maps().forget();
    for (int64_t i = 0; i < of_.num_blocks; ++i) {
      const MacroBlock& block = of_.blocks[i];
      form_weights(block);
      if (of_.weights) {
        for (int bank = 0; bank < matrix_.banks; ++bank) multiply(block, bank);
      }
    }
  }

 private:
  bool is_on_diagonal(const MacroBlock& block) const { return block.first_row == block.first_col; }

  void form_weights(const MacroBlock& block) {
    const int64_t pairs = matrix_.rows.size * matrix_.cols.size;
    // the sum over both roles counts a pair twice, and only half of the blocks off the diagonal are visited
    const double weight = of_.self_similarity && is_on_diagonal(block) ? 0.5 : 1.0;
    const MacroGradientParams params = {
        matrix_,
        advance(of_.kept, batch_ * pairs * number()),
        of_.weights,
        of_.weights_bank_stride,
        of_.weights_stride,
        of_.parts,
        advance(of_.d_scale, (batch_ * of_.terms_per_entry + block.first_term) * number()),
        weight,
        block.first_row,
        block.first_col,
        block.rows,
        block.cols};
    macro_gradient_bwd(paths_.scores, params, stream_);
    const TileShape tile = score_tile(paths_.scores, matrix_.dtype, matrix_.score.kind);
    const int down = static_cast<int>(blocks_along(block.rows, tile.block_m));
    const int across = static_cast<int>(blocks_along(block.cols, tile.block_n));
    add_line(row_line(of_.lines.row_bias, block.first_row), of_.parts.row_bias, block.rows, across);
    add_line(bias_of_cols(block), of_.parts.col_bias, block.cols, down);
    add_line(row_line(of_.lines.row_term, block.first_row), of_.parts.row_term, block.rows, across);
    add_line(col_line(of_.lines.col_term, block.first_col), of_.parts.col_term, block.cols, down);
  }

  void add_line(void* line, const void* parts, int64_t size, int num_parts) {
    if (line) add_parts({matrix_.dtype, line, parts, size, num_parts}, stream_);
  }

  void multiply(const MacroBlock& block, int bank) {
    const int64_t element = element_bytes(matrix_.dtype);
    const Side &queries = matrix_.rows, &keys = matrix_.cols;
    const int64_t first_query = block.first_row * queries.row_stride;
    const int64_t first_key = bank * matrix_.bank_stride + block.first_col * keys.row_stride;
    macro_product_bwd(paths_.products,
                      {matrix_.dtype,
                       advance(of_.weights, bank * of_.weights_bank_stride * element),
                       of_.weights_stride,
                       block.rows,
                       block.cols,
                       matrix_.d,
                       {advance(keys.data, first_key * element), keys.row_stride, row_sum(block.first_row)},
                       {advance(queries.data, first_query * element), queries.row_stride, sum_of_cols(block, bank)}},
                      stream_);
  }

  // In self-similarity the columns are rows too, those of the block's mirror image; on the diagonal it has none.
  void* sum_of_cols(const MacroBlock& block, int bank) const {
    if (!of_.self_similarity) return col_sum(block.first_col, bank);
    return is_on_diagonal(block) ? nullptr : row_sum(block.first_col);
  }

  int64_t number() const { return statistics_bytes(matrix_.dtype); }

  void* row_sum(int64_t row) const {
    return advance(of_.rows.sum, (batch_ * matrix_.rows.size + row) * matrix_.d * number());
  }
  void* col_sum(int64_t col, int bank) const {
    return advance(of_.cols.sum, ((batch_ * matrix_.banks + bank) * matrix_.cols.size + col) * matrix_.d * number());
  }

  void* bias_of_cols(const MacroBlock& block) const {
    if (!of_.self_similarity) return col_line(of_.lines.col_bias, block.first_col);
    return is_on_diagonal(block) ? nullptr : row_line(of_.lines.row_bias, block.first_col);
  }

  void* row_line(void* lines, int64_t row) const {
    return advance(lines, (batch_ * matrix_.rows.size + row) * number());
  }
  void* col_line(void* lines, int64_t col) const {
    return advance(lines, (batch_ * matrix_.cols.size + col) * number());
  }

  const MacroPaths& paths_;
  const MacroPassParams& of_;
  const int64_t batch_;
  const Matrix matrix_;
  Stream& stream_;
};

// A sum over all blocks: zeros before the first, and what is made of it after the last.
struct Sum {
  void *sum, *gradient;
  DType gradient_dtype;
  int64_t size;
  bool is_scaled;  // dS has not the factor `scale`
};

}  // namespace

void macro_pass_bwd(const MacroPaths& paths, const MacroPassParams& of, Stream& stream) {
  const Matrix& matrix = of.matrix;
  const int64_t rows = matrix.batch * matrix.rows.size, cols = matrix.batch * matrix.cols.size;
  const int64_t number = statistics_bytes(matrix.dtype);
  const DType statistics = number == 8 ? DType::kFloat64 : DType::kFloat32;
  const LineSums& lines = of.lines;
  const Sum sums[] = {
      {of.rows.sum, of.rows.gradient, of.rows.dtype, rows * matrix.d, true},
      {of.cols.sum, of.cols.gradient, of.cols.dtype, cols * matrix.banks * matrix.d, true},
      {lines.row_bias, lines.row_bias, statistics, rows, false},
      {lines.col_bias, lines.col_bias, statistics, cols, false},
      {lines.row_term, lines.row_term, statistics, rows, true},
      {lines.col_term, lines.col_term, statistics, cols, true},
  };
  for (const Sum& sum : sums) {
    if (sum.sum) runtime().set_to_zero(sum.sum, sum.size * number, stream.handle());
  }
  for (int64_t batch = 0; batch < matrix.batch; ++batch) EntryPass(paths, of, batch, stream).run();
  for (const Sum& sum : sums) {
    if (!sum.sum || (!sum.is_scaled && !matrix.unit)) continue;
    finish_gradient(
        {sum.gradient_dtype, sum.sum, sum.gradient, sum.size, sum.is_scaled ? matrix.scale : nullptr, matrix.unit},
        stream);
  }
}

}  // namespace contrastive_ops::cuda
