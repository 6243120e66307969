"""Golden values of single ops from PyTorch and transformers: inputs, outputs, gradients.

Small cases of odd sizes. Inputs are f32; what PyTorch has as one function is computed from them in
f64 and stored as f32, so that a comparison measures our rounding alone. RMSNorm and the rotary
embedding are transformers' own modules and run in f32, as they do in a model.

    python tests/oracle/ops.py     # writes tests/golden/ops.safetensors and ops.json

Tensors are named op.case.argument; ops.json has each case's numbers. tests/golden/README.md has the
conventions.
"""

import argparse

import torch
import torch.nn.functional as F
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import (LlamaRMSNorm, LlamaRotaryEmbedding,
                                                       apply_rotary_pos_emb)

from golden import GOLDEN, provenance, save_json, save_tensors

SEED = 20250117
gen = torch.Generator()
tensors, cases = {}, {}


def randn(*shape, scale=1.0):
    return torch.randn(shape, generator=gen) * scale


def add(op, numbers=None, **values):
    """One more case of an op: its tensors, and the numbers that go with them."""
    index = len(cases.setdefault(op, []))
    cases[op].append(numbers or {})
    for name, value in values.items():
        tensors[f"{op}.{index}.{name}"] = value.detach()


def backward(output, upstream, *inputs):
    return torch.autograd.grad(output, inputs, upstream.to(output.dtype))


def wide(*values):
    """Leaves for autograd, in f64."""
    return [v.double().requires_grad_() for v in values]


def linear():
    for n, d_in, d_out, bias in ((5, 7, 3, True), (1, 33, 17, False), (19, 1, 2, True)):
        x, w, b, dy = randn(n, d_in), randn(d_out, d_in), randn(d_out), randn(n, d_out)
        X, W, B = wide(x, w, b)
        y = F.linear(X, W, B if bias else None)
        grads = backward(y, dy, X, W, *([B] if bias else []))
        add("linear", None, x=x, w=w, y=y, dy=dy, dx=grads[0], dw=grads[1],
            **(dict(b=b, db=grads[2]) if bias else {}))


def embedding():
    table, ids, dy = randn(9, 5), torch.tensor([3, 0, 8, 3, 3, 1, 0]), randn(7, 5)
    T, = wide(table)
    y = F.embedding(ids, T)
    add("embedding", None, table=table, ids=ids, y=y, dy=dy, dtable=backward(y, dy, T)[0])


def rmsnorm():
    for n, d, eps, scale in ((5, 7, 1e-5, 1.0), (3, 33, 1e-6, 100.0), (2, 17, 1e-5, 1e-4), (4, 1, 1e-5, 1.0)):
        x, dy = randn(n, d, scale=scale).requires_grad_(), randn(n, d)
        norm = LlamaRMSNorm(d, eps)
        norm.weight.data = 1 + 0.3 * randn(d)
        y = norm(x)
        dx, dw = backward(y, dy, x, norm.weight)
        rstd = torch.rsqrt(x.pow(2).mean(-1) + eps)
        add("rmsnorm", {"eps": eps}, x=x, w=norm.weight, y=y, rstd=rstd, dy=dy, dx=dx, dw=dw)
    # The sum with a residual stream first, whose gradient also comes from further on.
    x, residual, dy, dsum = randn(4, 19), randn(4, 19), randn(4, 19), randn(4, 19)
    norm = LlamaRMSNorm(19, 1e-5)
    norm.weight.data = 1 + 0.3 * randn(19)
    s = (x + residual).requires_grad_()
    y = norm(s)
    ds, dw = torch.autograd.grad([y, s], [s, norm.weight], [dy, dsum])
    add("rmsnorm_residual", {"eps": 1e-5}, x=x, residual=residual, w=norm.weight, sum=s, y=y, dy=dy,
        dsum=dsum, ds=ds, dw=dw)


def rope():
    plain = [0, 1, 2, 3, 0, 1, 7, 30]
    for heads, d, positions, parameters in (
        (3, 10, plain, {"rope_type": "default", "rope_theta": 10000.0}),
        (2, 16, [0, 100, 511, 4095], {"rope_type": "default", "rope_theta": 1000000.0}),
        (2, 8, plain, {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5}),
        (2, 8, plain, {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
                       "high_freq_factor": 4.0, "original_max_position_embeddings": 64}),
        (1, 128, [0, 5, 777], {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0,
                               "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                               "original_max_position_embeddings": 8192}),
    ):
        config = LlamaConfig(hidden_size=heads * d, num_attention_heads=heads, head_dim=d,
                             rope_parameters=parameters, max_position_embeddings=16384)
        n, position = len(positions), torch.tensor(positions)
        x, dy = randn(n, heads, d).requires_grad_(), randn(n, heads, d)
        cos, sin = LlamaRotaryEmbedding(config)(x, position[None])  # (1, n, D), both halves equal
        y, _ = apply_rotary_pos_emb(x.transpose(0, 1)[None], x.transpose(0, 1)[None], cos, sin)
        y = y[0].transpose(0, 1)
        add("rope", {"parameters": parameters, "heads": heads, "head_dim": d}, x=x, position=position,
            cos=cos[0, :, : d // 2], sin=sin[0, :, : d // 2], y=y, dy=dy, dx=backward(y, dy, x)[0])


def swiglu():
    for n, d, scale in ((5, 13, 1.0), (2, 9, 30.0)):
        gate, up, dy = randn(n, d, scale=scale), randn(n, d), randn(n, d)
        G, U = wide(gate, up)
        y = F.silu(G) * U
        dgate, dup = backward(y, dy, G, U)
        add("swiglu", None, gate=gate, up=up, y=y, dy=dy, dgate=dgate, dup=dup)


def starts(lengths):
    return torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])


def attention():
    """Sequences one by one; query i of a sequence sees keys 0 .. k_len - q_len + i."""
    for H, K, D, q_lengths, k_lengths in (
        (6, 2, 8, [5, 1, 17, 3], [5, 1, 17, 3]),
        (3, 3, 12, [23], [23]),
        (4, 1, 5, [2, 9], [2, 9]),
        (4, 2, 6, [2, 1, 4], [5, 9, 4]),  # a cache: the queries are the last rows
    ):
        q, do = randn(sum(q_lengths), H, D, scale=2), randn(sum(q_lengths), H, D)
        k, v = randn(sum(k_lengths), K, D), randn(sum(k_lengths), K, D)
        Q, KK, V = wide(q, k, v)
        cu_q, cu_k, out, lse = starts(q_lengths), starts(k_lengths), [], []
        for i, (tq, tk) in enumerate(zip(q_lengths, k_lengths)):
            qs = Q[cu_q[i]:cu_q[i + 1]].transpose(0, 1)[None]
            ks, vs = (t[cu_k[i]:cu_k[i + 1]].transpose(0, 1)[None] for t in (KK, V))
            seen = torch.ones(tq, tk, dtype=torch.bool).tril(tk - tq)
            o = F.scaled_dot_product_attention(qs, ks, vs, attn_mask=seen, enable_gqa=True)
            scores = qs[0] @ ks[0].repeat_interleave(H // K, 0).transpose(1, 2) / D**0.5
            lse.append(scores.masked_fill(~seen, -torch.inf).logsumexp(-1).T)
            out.append(o[0].transpose(0, 1))
        o = torch.cat(out)
        dq, dk, dv = backward(o, do, Q, KK, V)
        add("attention", {"H": H, "K": K, "D": D, "scale": D**-0.5}, q=q, k=k, v=v, cu_q=cu_q, cu_k=cu_k, o=o,
            lse=torch.cat(lse), do=do, dq=dq, dk=dk, dv=dv)


def softmax():
    for n, d, scale in ((4, 11, 1.0), (3, 7, 1e4), (2, 1, 1.0)):
        x, dy = randn(n, d, scale=scale), randn(n, d)
        X, = wide(x)
        y = F.softmax(X, -1)
        add("softmax", None, x=x, y=y, dy=dy, dx=backward(y, dy, X)[0])


def cross_entropy():
    """loss = sum_i weight_i nll_i / sum_i weight_i."""
    weight = torch.tensor([0.0, 1.0, 0.5, 2.0, 0.0, 1.0, 0.25])
    for V, scale in ((13, 1.0), (29, 100.0)):
        logits, target = randn(7, V, scale=scale), torch.randint(0, V, (7,), generator=gen)
        Z, = wide(logits)
        nll = F.cross_entropy(Z, target, reduction="none")
        loss_sum = (weight * nll).sum()
        grad, = torch.autograd.grad(loss_sum / weight.sum(), Z)
        add("cross_entropy", None, logits=logits, target=target, weight=weight, nll=nll, loss_sum=loss_sum,
            weight_sum=weight.sum(), dlogits=grad)
    # With the output head: logits are x w^T.
    x, w, target = randn(7, 5), randn(31, 5), torch.randint(0, 31, (7,), generator=gen)
    X, W = wide(x, w)
    nll = F.cross_entropy(F.linear(X, W), target, reduction="none")
    loss_sum = (weight * nll).sum()
    dx, dw = torch.autograd.grad(loss_sum / weight.sum(), (X, W))
    add("linear_cross_entropy", None, x=x, w=w, target=target, weight=weight, nll=nll, loss_sum=loss_sum,
        weight_sum=weight.sum(), dx=dx, dw=dw)


def clip_grad_norm():
    for max_norm, scale in ((1.0, 1.0), (1.0, 0.01), (0.5, 0.0)):
        grads = [randn(5, 3, scale=scale), randn(7, scale=scale), randn(1, scale=scale)]
        leaves = [torch.zeros_like(g, requires_grad=True) for g in grads]
        for leaf, g in zip(leaves, grads):
            leaf.grad = g.clone()
        norm = torch.nn.utils.clip_grad_norm_(leaves, max_norm)
        add("clip_grad_norm", {"max_norm": max_norm}, norm=norm,
            **{f"g{i}": g for i, g in enumerate(grads)}, **{f"y{i}": p.grad for i, p in enumerate(leaves)})


def adamw():
    """Four steps of torch.optim.AdamW with a changing rate; some gradients are zero."""
    for decay, eps in ((0.0, 1e-8), (0.1, 1e-8), (0.1, 1e-3)):
        p = randn(37).requires_grad_()
        values = {"p": p.detach().clone()}
        opt = torch.optim.AdamW([p], betas=(0.9, 0.999), eps=eps, weight_decay=decay)
        rates = [1e-3, 1e-2, 0.0, 5e-3]
        for t, lr in enumerate(rates, 1):
            opt.param_groups[0]["lr"] = lr
            p.grad = randn(37, scale=10.0 ** (-t))
            p.grad[::5] = 0
            values[f"g{t}"] = p.grad.clone()
            opt.step()
            state = opt.state[p]
            values.update({f"p{t}": p.detach().clone(), f"m{t}": state["exp_avg"].clone(),
                           f"v{t}": state["exp_avg_sq"].clone()})
        add("adamw", {"lr": rates, "beta1": 0.9, "beta2": 0.999, "eps": eps, "decay": decay}, **values)


def main():
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    torch.set_num_threads(1)
    for i, op in enumerate((linear, embedding, rmsnorm, rope, swiglu, attention, softmax, cross_entropy,
                            clip_grad_norm, adamw)):
        gen.manual_seed(SEED + i)  # one op's cases do not move another's
        op()
    origin = provenance(__file__, seed=SEED)
    save_tensors(GOLDEN / "ops.safetensors", tensors, origin)
    save_json(GOLDEN / "ops.json", {"provenance": origin, "cases": cases})


if __name__ == "__main__":
    main()
