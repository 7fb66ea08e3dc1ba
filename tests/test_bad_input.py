"""Every bad input ends in a ValueError or TypeError that says what was got and what was expected, before any work."""

import pytest
import torch

from contrastive_ops import (
    ClipLoss,
    InfoNCELoss,
    NTXentLoss,
    all_pairs,
    clip_loss,
    diagonal,
    different,
    gram_loss,
    gram_nearest,
    gram_negatives,
    gram_volume,
    info_nce,
    merge_lse,
    nt_xent,
    off_diagonal,
    same,
    similarity_statistics,
    streamed_row_lse,
    sup_con,
    volume_statistics,
)

M, N, D = 5, 7, 4
Q, K, K5 = torch.randn(M, D), torch.randn(N, D), torch.randn(M, D)
IDS, COL_IDS = torch.arange(M), torch.arange(N)


class DTensor(torch.Tensor):
    """Stands for torch.distributed's: refused by the name of its type, so that nothing distributed is imported."""


def statistics(queries=Q, keys=K, **options):
    return similarity_statistics(queries, keys, **options)


def chunks(*tensors):
    return (tensor for tensor in tensors)


# name: (call, error, parts of the message: what was got, what was expected)
BAD = {
    # embeddings
    "queries_list": (lambda: statistics([[1.0]]), TypeError, ("queries must be a torch.Tensor", "got list")),
    "keys_none": (lambda: statistics(keys=None), TypeError, ("keys must be a torch.Tensor", "got NoneType")),
    "queries_1d": (lambda: statistics(torch.randn(D)), ValueError, ("[rows, D] or [B, rows, D]", "got shape (4,)")),
    "queries_4d": (lambda: statistics(torch.randn(1, 1, M, D)), ValueError, ("[rows, D]", "got shape (1, 1, 5, 4)")),
    "d_zero": (lambda: statistics(Q[:, :0], K[:, :0]), ValueError, ("D >= 1", "got shape (5, 0)")),
    "d_differs": (lambda: statistics(Q, K[:, :3]), ValueError, ("share the embedding size D", "got 4 and 3")),
    "dims_differ": (lambda: statistics(Q, K[None]), ValueError, ("both be 2-D or both 3-D", "(5, 4) and (1, 7, 4)")),
    "batch_differs": (
        lambda: statistics(torch.randn(2, M, D), torch.randn(3, N, D)),
        ValueError,
        ("share the batch size B", "got 2 and 3"),
    ),
    "int_dtype": (lambda: statistics(Q.int(), K.int()), TypeError, ("dtype of float32", "got torch.int32")),
    "bool_dtype": (lambda: statistics(Q > 0, K > 0), TypeError, ("dtype of float32", "got torch.bool")),
    "complex_dtype": (lambda: statistics(Q + 0j, K + 0j), TypeError, ("dtype of float32", "got torch.complex64")),
    "float8_dtype": (
        lambda: statistics(Q.to(torch.float8_e4m3fn), K.to(torch.float8_e4m3fn)),
        TypeError,
        ("dtype of float32", "got torch.float8_e4m3fn"),
    ),
    "dtypes_differ": (lambda: statistics(Q, K.double()), TypeError, ("share one dtype", "float32 and torch.float64")),
    "sparse": (lambda: statistics(Q.to_sparse()), TypeError, ("dense tensor", "got layout torch.sparse_coo")),
    "dtensor": (lambda: statistics(Q.as_subclass(DTensor)), TypeError, ("queries is a DTensor", "expected a plain")),
    "devices_differ": (lambda: statistics(Q, K.to("meta")), ValueError, ("share one device", "got cpu and meta")),
    # tuples of modalities
    "anchor_none": (lambda: volume_statistics(None, [K]), TypeError, ("anchor must be a torch.Tensor", "got NoneType")),
    "modalities_tensor": (
        lambda: volume_statistics(Q, K),
        TypeError,
        ("sequence of tensors", "got Tensor", "[modality]"),
    ),
    "modalities_iterator": (lambda: gram_volume(Q, chunks(K5)), TypeError, ("sequence of tensors", "got generator")),
    "no_modality": (lambda: volume_statistics(Q, []), ValueError, ("1 to 7 tensors", "got 0")),
    "many_modalities": (lambda: gram_volume(Q, [K5] * 8), ValueError, ("1 to 7 tensors", "got 8")),
    "modality_text": (lambda: volume_statistics(Q, [K, "x"]), TypeError, ("modalities[1] must be", "got str")),
    "modality_rows": (lambda: volume_statistics(Q, [K, K5]), ValueError, ("one shape", "got (7, 4) and (5, 4)")),
    "modality_size": (lambda: volume_statistics(Q, [K[:, :3]]), ValueError, ("embedding size D", "got 4 and 3")),
    "modality_dtype": (lambda: volume_statistics(Q, [K.double()]), TypeError, ("modalities[0] must share one dtype",)),
    "modality_device": (lambda: volume_statistics(Q, [K.to("meta")]), ValueError, ("device of the anchor", "got meta")),
    "modality_batch": (lambda: volume_statistics(Q, [K[None]]), ValueError, ("[rows, D] or [B, rows, D]", "(1, 7, 4)")),
    "tuples_unpaired": (lambda: gram_loss(Q, [K]), ValueError, ("match row by row", "got (5, 4) and (7, 4)")),
    "absolute_text": (lambda: volume_statistics(Q, [K], absolute="yes"), TypeError, ("must be a bool", "got str")),
    "gram_batch": (
        lambda: gram_loss(Q[None], [K5[None]]),
        ValueError,
        ("anchor must be [N, D]", "got shape (1, 5, 4)"),
    ),
    "nearest_none": (lambda: gram_nearest(Q, [K], 0), ValueError, ("from 1 to the number of tuples, 7", "got 0")),
    "nearest_many": (lambda: gram_nearest(Q, [K], 8), ValueError, ("from 1 to the number of tuples, 7", "got 8")),
    "nearest_float": (lambda: gram_nearest(Q, [K], 2.0), TypeError, ("k must be an int", "got float")),
    "negatives_one": (lambda: gram_negatives(Q[:1], [K5[:1]]), ValueError, ("at least two items", "got N=1")),
    "negatives_floor": (
        lambda: gram_negatives(Q, [K5], floor=-1.0),
        ValueError,
        ("floor must be in [0, inf)", "got -1.0"),
    ),
    # options of the statistics
    "no_direction": (lambda: statistics(rows=False, columns=False), ValueError, ("got rows=False", "at least one")),
    "scale_shape": (lambda: statistics(scale=torch.ones(2)), ValueError, ("hold one element", "got shape (2,)")),
    "scale_int_tensor": (lambda: statistics(scale=torch.tensor(2)), TypeError, ("floating-point", "got torch.int64")),
    "scale_text": (lambda: statistics(scale="2"), TypeError, ("float or a 0-dim tensor", "got str")),
    "scale_too_large": (
        lambda: statistics(scale=1e39),
        ValueError,
        ("torch.float32", "at most 3.403e+38", "got 1e+39"),
    ),
    "scale_none": (lambda: statistics(scale=None), TypeError, ("float or a 0-dim tensor", "got NoneType")),
    "scale_bool": (lambda: statistics(scale=True), TypeError, ("float or a 0-dim tensor", "got bool")),
    "row_bias_shape": (lambda: statistics(row_bias=torch.ones(N)), ValueError, ("must have shape (5,)", "got (7,)")),
    "col_bias_shape": (lambda: statistics(col_bias=torch.ones(1, N)), ValueError, ("shape (7,)", "got (1, 7)")),
    "row_bias_int": (lambda: statistics(row_bias=IDS), TypeError, ("floating-point", "got torch.int64")),
    "row_bias_float": (lambda: statistics(row_bias=1.0), TypeError, ("torch.Tensor or None", "got float")),
    "col_bias_device": (
        lambda: statistics(col_bias=torch.ones(N, device="meta")),
        ValueError,
        ("on the device of the queries, cpu", "got meta"),
    ),
    "workspace_negative": (lambda: statistics(workspace_bytes=-1), ValueError, (">= 0", "got -1")),
    "workspace_float": (lambda: statistics(workspace_bytes=1e6), TypeError, ("must be an int", "got float")),
    "workspace_bool": (lambda: statistics(workspace_bytes=True), TypeError, ("must be an int", "got bool")),
    "backend_unknown": (
        lambda: statistics(backend="gpu"),
        ValueError,
        ("must be one of cpu, triton, cuda, eager", "got 'gpu'"),
    ),
    "backend_type": (lambda: statistics(backend=3), ValueError, ("must be one of cpu, triton, cuda, eager", "got 3")),
    # relations
    "candidates_text": (lambda: statistics(candidates="all"), TypeError, ("must be a Relation", "got str")),
    "candidates_mask": (
        lambda: statistics(candidates=torch.ones(M, N, dtype=torch.bool)),
        TypeError,
        ("candidates must be a Relation", "got Tensor"),
    ),
    "positives_function": (lambda: statistics(positives=diagonal), TypeError, ("must be a Relation", "got function")),
    "five_clauses": (
        lambda: off_diagonal() & same(IDS) & different(IDS) & off_diagonal(1) & off_diagonal(2),
        ValueError,
        ("at most 4 clauses", "got 5"),
    ),
    "offset_float": (lambda: statistics(candidates=diagonal(0.5)), TypeError, ("must be an int", "got float")),
    "offset_bool": (lambda: statistics(candidates=diagonal(True)), TypeError, ("must be an int", "got bool")),
    "offset_beyond_int64": (lambda: statistics(candidates=diagonal(2**70)), ValueError, ("offset", str(2**70))),
    "ids_list": (lambda: statistics(candidates=same([1, 2])), TypeError, ("must be a torch.Tensor", "got list")),
    "ids_float": (lambda: statistics(candidates=same(IDS.float(), COL_IDS)), TypeError, ("integers", "torch.float32")),
    "ids_short": (
        lambda: statistics(candidates=same(IDS[:3], COL_IDS)),
        ValueError,
        ("row_ids must have shape [5]", "got (3,)"),
    ),
    "ids_swapped": (lambda: statistics(positives=same(COL_IDS, IDS)), ValueError, ("shape [5]", "got (7,)")),
    "ids_2d_without_batch": (lambda: statistics(candidates=same(IDS[None], COL_IDS)), ValueError, ("[5]", "(1, 5)")),
    "ids_batch": (
        lambda: statistics(torch.randn(2, M, D), torch.randn(2, N, D), candidates=same(IDS.repeat(3, 1), COL_IDS)),
        ValueError,
        ("[5] or [2, 5]", "got (3, 5)"),
    ),
    "ids_without_columns": (lambda: statistics(candidates=same(IDS)), ValueError, ("col_ids are needed", "M=5, N=7")),
    "ids_device": (lambda: statistics(candidates=same(IDS.to("meta"), COL_IDS)), ValueError, ("device", "got meta")),
    "merge_nothing": (lambda: merge_lse(), ValueError, ("at least one part", "got none")),
    "merge_shapes": (lambda: merge_lse(torch.ones(3), torch.ones(4)), ValueError, ("one shape", "(3,) and (4,)")),
    "merge_number": (lambda: merge_lse(1.0, 2.0), TypeError, ("torch.Tensor", "got float")),
    # clip_loss
    "clip_shapes": (lambda: clip_loss(Q, K, 1.0), ValueError, ("one shape [N, D]", "(5, 4) and (7, 4)")),
    "clip_3d": (lambda: clip_loss(Q[None], Q[None], 1.0), ValueError, ("must be [N, D]", "got shape (1, 5, 4)")),
    "clip_no_scale": (lambda: clip_loss(Q, K5, None), TypeError, ("float or a 0-dim tensor", "got NoneType")),
    "clip_vector_scale": (lambda: clip_loss(Q, K5, torch.ones(M)), ValueError, ("one element", "got shape (5,)")),
    "clip_reduction": (lambda: clip_loss(Q, K5, 1.0, reduction="avg"), ValueError, ("mean, sum, none", "got 'avg'")),
    "clip_reduction_none": (lambda: clip_loss(Q, K5, 1.0, reduction=None), ValueError, ("mean, sum, none", "got None")),
    "clip_smoothing_one": (lambda: clip_loss(Q, K5, 1.0, label_smoothing=1.0), ValueError, ("[0, 1)", "got 1.0")),
    "clip_smoothing_negative": (lambda: clip_loss(Q, K5, 1.0, label_smoothing=-0.1), ValueError, ("[0, 1)", "-0.1")),
    "clip_smoothing_nan": (
        lambda: clip_loss(Q, K5, 1.0, label_smoothing=float("nan")),
        ValueError,
        ("label_smoothing must be in [0, 1)", "got nan"),
    ),
    "clip_smoothing_text": (
        lambda: clip_loss(Q, K5, 1.0, label_smoothing="0.1"),
        TypeError,
        ("label_smoothing must be a float", "got str"),
    ),
    "clip_module": (lambda: ClipLoss(reduction="avg")(Q, K5, 1.0), ValueError, ("mean, sum, none", "got 'avg'")),
    # temperatures
    "temperature_zero": (lambda: info_nce(Q, K5, temperature=0.0), ValueError, ("temperature must be > 0", "got 0.0")),
    "temperature_negative": (lambda: nt_xent(Q, K5, temperature=-1), ValueError, ("must be > 0", "got -1")),
    "temperature_nan": (lambda: sup_con(Q, IDS, temperature=float("nan")), ValueError, ("must be > 0", "got nan")),
    "temperature_text": (lambda: nt_xent(Q, K5, temperature="0.1"), TypeError, ("float or a 0-dim", "got str")),
    "temperature_vector": (
        lambda: info_nce(Q, K5, temperature=torch.ones(M)),
        ValueError,
        ("one-element", "shape (5,)"),
    ),
    "temperature_int_tensor": (
        lambda: info_nce(Q, K5, temperature=torch.tensor(1)),
        (ValueError, TypeError),
        ("floating-point", "got torch.int64"),
    ),
    "temperature_module": (lambda: NTXentLoss(temperature=0.0)(Q, K5), ValueError, ("must be > 0", "got 0.0")),
    # info_nce
    "info_nce_shapes": (lambda: info_nce(Q, K), ValueError, ("queries and keys must have one shape", "(7, 4)")),
    "negatives_d": (lambda: info_nce(Q, K5, negatives=K[:, :3]), ValueError, ("D=4", "got shape (7, 3)")),
    "negatives_grad_d": (
        lambda: info_nce(Q, K5, negatives=K[:, :3].clone().requires_grad_()),
        ValueError,
        ("embedding size D", "got 4 and 3"),
    ),
    "negatives_1d": (lambda: info_nce(Q, K5, negatives=K[0]), ValueError, ("[K, D] or [M, K, D]", "got shape (4,)")),
    "negatives_rows": (
        lambda: info_nce(Q, K5, negatives=torch.randn(3, 2, D)),
        ValueError,
        ("[M=5, K, D=4]", "got shape (3, 2, 4)"),
    ),
    "negatives_number": (lambda: info_nce(Q, K5, negatives=5), TypeError, ("tensor or an iterable", "got int")),
    "negatives_text": (lambda: info_nce(Q, K5, negatives="bank"), TypeError, ("must be a torch.Tensor", "got str")),
    "negatives_int": (lambda: info_nce(Q, K5, negatives=K.int()), TypeError, ("dtype of float32", "got torch.int32")),
    "negatives_list_of_lists": (lambda: info_nce(Q, K5, negatives=[[1.0]]), TypeError, ("torch.Tensor", "got list")),
    "negatives_list_with_number": (
        lambda: info_nce(Q, K5, negatives=[K.clone().requires_grad_(), 3]),
        TypeError,
        ("must be a torch.Tensor", "got int"),
    ),
    "negatives_array": (lambda: info_nce(Q, K5, negatives=K.numpy()), TypeError, ("torch.Tensor", "got ndarray")),
    "negatives_3d_chunk": (lambda: info_nce(Q, K5, negatives=chunks(K[None])), ValueError, ("[K_c, D=4]", "(1, 7, 4)")),
    "negatives_second_chunk": (lambda: info_nce(Q, K5, negatives=chunks(K, Q[:, :2])), ValueError, ("D=4", "(5, 2)")),
    "streamed_chunk_with_grad": (
        lambda: info_nce(Q.clone().requires_grad_(), K5, negatives=chunks(K.clone().requires_grad_())),
        ValueError,
        ("requires grad", "expected none"),
    ),
    "streamed_function_chunk_with_grad": (
        lambda: streamed_row_lse(Q, chunks(K.clone().requires_grad_())),
        ValueError,
        ("requires grad", "expected none"),
    ),
    "streamed_3d": (lambda: streamed_row_lse(Q[None], [K]), ValueError, ("must be [M, D]", "got shape (1, 5, 4)")),
    "streamed_not_iterable": (lambda: streamed_row_lse(Q, 3), TypeError, ("iterable", "got int")),
    "streamed_backend": (lambda: streamed_row_lse(Q, [], backend="gpu"), ValueError, ("must be one of", "got 'gpu'")),
    "streamed_workspace": (
        lambda: streamed_row_lse(Q.clone().requires_grad_(), [K], workspace_bytes=-1),
        ValueError,
        ("workspace_bytes must be >= 0", "got -1"),
    ),
    "info_nce_module": (
        lambda: InfoNCELoss()(Q, K5, K[0]),
        ValueError,
        ("[K, D] or [M, K, D]", "got shape (4,)"),
    ),
    # relations are combined with & alone
    "relation_and": (
        lambda: info_nce(Q, K5, negatives=different(IDS) and same(IDS)),
        TypeError,
        ("no truth value", "`and`", "first & second"),
    ),
    "relation_or": (lambda: different(IDS) or same(IDS), TypeError, ("no truth value", "`or`", "merge_lse")),
    "relation_not": (lambda: not same(IDS), TypeError, ("no truth value", "`not`", "different(ids)")),
    "relation_union": (lambda: different(IDS) | same(IDS), TypeError, ("no union", "merge_lse")),
    "relation_complement": (lambda: ~same(IDS), TypeError, ("no complement", "different(ids)", "off_diagonal()")),
    "relation_and_mask": (lambda: same(IDS) & (IDS > 0), TypeError, ("unsupported operand", "'Relation' and 'Tensor'")),
    # nt_xent, sup_con
    "nt_xent_shapes": (lambda: nt_xent(Q, K), ValueError, ("z1 and z2 must have one shape", "(7, 4)")),
    "nt_xent_dtypes": (lambda: nt_xent(Q, K5.double()), TypeError, ("share one dtype", "torch.float64")),
    "clip_dtypes": (lambda: clip_loss(Q, K5.bfloat16(), 1.0), TypeError, ("share one dtype", "torch.bfloat16")),
    "info_nce_dtypes": (
        lambda: info_nce(Q, K5.half(), negatives=K),
        TypeError,
        ("share one dtype", "torch.float16"),
    ),
    "sup_con_3d": (lambda: sup_con(Q[None], IDS), ValueError, ("features must be [N, D]", "got shape (1, 5, 4)")),
    "sup_con_labels_short": (lambda: sup_con(Q, IDS[:3]), ValueError, ("must have shape [5]", "got (3,)")),
    "sup_con_labels_2d": (lambda: sup_con(Q, IDS[None]), ValueError, ("must have shape [5]", "got (1, 5)")),
    "sup_con_labels_float": (lambda: sup_con(Q, IDS.float()), TypeError, ("integers", "got torch.float32")),
    "sup_con_labels_list": (lambda: sup_con(Q, [0, 1, 0, 1, 0]), TypeError, ("must be a torch.Tensor", "got list")),
    "sup_con_labels_none": (lambda: sup_con(Q, None), TypeError, ("must be a torch.Tensor", "got NoneType")),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_got_and_expected(name):
    call, error, parts = BAD[name]
    inputs = (Q, K, K5, IDS, COL_IDS)
    before = [x.clone() for x in inputs]
    with pytest.raises(error) as raised:
        call()
    for part in parts:
        assert part in str(raised.value)
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))


def test_refused_before_any_work(monkeypatch):
    """No backend is entered."""
    from contrastive_ops.backends import BACKENDS

    entered = []
    for backend in BACKENDS.values():
        monkeypatch.setattr(type(backend), "forward", lambda self, problem: entered.append(problem))
    for call, error, _ in (BAD[name] for name in BAD if name != "negatives_second_chunk"):
        with pytest.raises(error):
            call()
    assert not entered


def test_a_named_backend_that_cannot_says_why():
    """No silent fallback: tensors on another device are refused by the native CPU backend, with its reason."""
    with pytest.raises(ValueError, match=r"backend 'cpu' cannot .*tensors must be on the CPU, got meta"):
        statistics(Q.to("meta"), K.to("meta"), backend="cpu")


def test_all_pairs_is_the_default():
    assert torch.equal(statistics().row_lse, statistics(candidates=all_pairs()).row_lse)
