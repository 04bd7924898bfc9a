"""Whisper in PyTorch on the weights of ScamTap's graphs, for benchmarks/gpu.py: µ-law in, states and tokens out.

The mel spectrum, the encoder and a decoder with a fixed cache, so that a step is one CUDA graph. Rows of a batch may be
windows of different lengths: what lies beyond a row's own frames is masked.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F  # noqa: N812

from inference.rtp.g711 import ULAW_TO_PCM
from inference.speech.mel import (
    BINS,
    DFT,
    DYNAMIC_RANGE,
    FLOOR,
    FULL_SCALE,
    HOP,
    POWER_GAIN,
    fourier_kernel,
    mel_filters,
)

Weights = Mapping[str, npt.NDArray[Any]]
Tensor = torch.Tensor

SAMPLES_PER_FRAME = 2 * HOP  # of the encoder's output: 50 a second at 8 kHz


class TorchWhisper:
    """Encoder and decoder.

    Args:
        tensors: weights under their Hugging Face names.
        device: where.
        dtype: of products; norms and spectra are made as that allows, spectra always in fp32.
        head_width: channels per attention head.
    """

    def __init__(self, tensors: Weights, *, device: str, dtype: torch.dtype, head_width: int = 64) -> None:
        self.device, self.dtype, self.head_width = torch.device(device), dtype, head_width

        def put(array: npt.NDArray[Any], as_type: torch.dtype = dtype) -> Tensor:
            return torch.from_numpy(np.array(array, np.float32)).to(self.device, as_type)

        self._put = put
        self._raw = tensors
        self.width = tensors["model.encoder.conv1.weight"].shape[0]
        self.num_heads = self.width // head_width
        self.encoder = [self._layer("encoder", i) for i in range(self._count("encoder"))]
        self.decoder = [self._layer("decoder", i) for i in range(self._count("decoder"))]
        self.convolutions = [self._pair(f"model.encoder.conv{i}") for i in (1, 2)]
        self.norms = {side: self._pair(f"model.{side}.layer_norm") for side in ("encoder", "decoder")}
        self.positions = {s: put(tensors[f"model.{s}.embed_positions.weight"]) for s in ("encoder", "decoder")}
        self.embedding = put(tensors["model.decoder.embed_tokens.weight"])
        cross = [f"model.decoder.layers.{i}.encoder_attn" for i in range(len(self.decoder))]
        weights, biases = zip(*[self._pair(f"{n}.{p}") for n in cross for p in ("k_proj", "v_proj")], strict=True)
        self.cross = torch.cat(weights), torch.cat(biases)
        self._ulaw = put(ULAW_TO_PCM / FULL_SCALE, torch.float32)
        self._fourier = put(fourier_kernel().T, torch.float32)  # [DFT, 2 * BINS]
        self._mels = put(mel_filters().T * POWER_GAIN, torch.float32)  # [BINS, mels]

    def _count(self, side: str) -> int:
        return 1 + max(int(name.split(".layers.")[1].split(".")[0]) for name in self._raw if f".{side}.layers." in name)

    def _pair(self, name: str) -> tuple[Tensor, Tensor]:
        weight = self._raw[f"{name}.weight"]
        bias = self._raw.get(f"{name}.bias", np.zeros(len(weight), np.float32))  # Whisper's keys have none
        return self._put(weight), self._put(bias)

    def _layer(self, side: str, index: int) -> dict[str, tuple[Tensor, Tensor]]:
        name = f"model.{side}.layers.{index}"
        parts = {
            part: self._pair(f"{name}.{part}") for part in ("self_attn_layer_norm", "final_layer_norm", "fc1", "fc2")
        }
        projections = [self._pair(f"{name}.self_attn.{p}_proj") for p in "qkv"]
        parts["qkv"] = torch.cat([w for w, _ in projections]), torch.cat([b for _, b in projections])
        parts["out"] = self._pair(f"{name}.self_attn.out_proj")
        if side == "decoder":
            parts["cross_norm"] = self._pair(f"{name}.encoder_attn_layer_norm")
            parts["cross_query"] = self._pair(f"{name}.encoder_attn.q_proj")
            parts["cross_out"] = self._pair(f"{name}.encoder_attn.out_proj")
        return parts

    def log_mel(self, ulaw: Tensor) -> Tensor:
        """uint8 ``[batch, samples]`` -> ``[batch, frames, mels]``."""
        wave = self._ulaw[ulaw.long()]
        wave = F.pad(wave[:, None], (DFT // 2, DFT // 2 - HOP), mode="reflect")[:, 0]
        spectrum = wave.unfold(1, DFT, HOP) @ self._fourier
        power = spectrum[..., :BINS].square() + spectrum[..., BINS:].square()
        logs = torch.log10((power @ self._mels).clamp_min(FLOOR))
        loudest = logs.amax(dim=(1, 2), keepdim=True)
        return torch.maximum(logs, loudest - DYNAMIC_RANGE) * 0.25 + 1

    def encode(self, ulaw: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 ``[batch, samples]``.

        Returns:
            States ``[batch, time, width]``, and what the decoder attends to: ``[2 * layers, batch, heads, time, head
            width]``, keys and values of a layer in turn.
        """
        x = self.log_mel(ulaw).to(self.dtype).transpose(1, 2)
        for stride, (weight, bias) in enumerate(self.convolutions, 1):
            x = F.gelu(F.conv1d(x, weight, bias, stride=stride, padding=1))
        x = x.transpose(1, 2)
        x = x + self.positions["encoder"][: x.shape[1]]
        for layer in self.encoder:
            normed = self._norm(x, layer["self_attn_layer_norm"])
            query, key, value = (self._heads(part) for part in F.linear(normed, *layer["qkv"]).chunk(3, dim=-1))
            x = x + F.linear(self._flat(F.scaled_dot_product_attention(query, key, value)), *layer["out"])
            x = x + self._feed_forward(x, layer)
        states = self._norm(x, self.norms["encoder"])
        crossed = F.linear(states, *self.cross).unflatten(-1, (len(self.decoder) * 2, self.num_heads, self.head_width))
        return states, crossed.permute(2, 0, 3, 1, 4).contiguous()

    def _feed_forward(self, x: Tensor, layer: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
        hidden = F.gelu(F.linear(self._norm(x, layer["final_layer_norm"]), *layer["fc1"]))
        return F.linear(hidden, *layer["fc2"])

    def _norm(self, x: Tensor, pair: tuple[Tensor, Tensor]) -> Tensor:
        return F.layer_norm(x, (self.width,), *pair)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, self.head_width)).transpose(1, 2)

    def _flat(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)


class Decoder:
    """Greedy decoding of up to ``num_rows`` windows of up to ``num_frames`` at once, in memory of its own.

    A step is captured as a CUDA graph where there is CUDA: launching its hundred small kernels one by one takes longer
    than running them.
    """

    def __init__(self, model: TorchWhisper, num_rows: int, num_frames: int, num_tokens: int, suppressed: Sequence[int]):
        self.model = model
        layers, shape = len(model.decoder), (num_rows, model.num_heads)
        new = {"device": model.device, "dtype": model.dtype}
        self.crossed = torch.zeros(2 * layers, *shape, num_frames, model.head_width, **new)
        self.heard = torch.zeros(num_rows, 1, 1, num_frames, device=model.device, dtype=torch.bool)
        self.past = torch.zeros(2 * layers, *shape, num_tokens, model.head_width, **new)
        self.places = torch.arange(num_tokens, device=model.device)
        self.at = torch.zeros(1, device=model.device, dtype=torch.long)  # tokens so far
        self.token = torch.zeros(num_rows, 1, device=model.device, dtype=torch.long)
        self.never = torch.zeros(len(model.embedding), **new)
        self.never[list(suppressed)] = -float("inf")
        self._graph: Any = None
        if model.device.type == "cuda":
            self._capture()

    def load(self, crossed: Tensor, num_frames: Sequence[int]) -> None:
        """Take what was encoded: ``[2 * layers, rows, heads, time, head width]`` and each row's own frames."""
        rows, time = crossed.shape[1], crossed.shape[3]
        self.crossed[:, :rows, :, :time] = crossed
        lengths = torch.ones(self.heard.shape[0], dtype=torch.long)  # a row that is not used attends to something
        lengths[:rows] = torch.tensor(num_frames)
        places = torch.arange(self.heard.shape[-1], device=self.model.device)
        self.heard[:] = (places < lengths.to(self.model.device)[:, None])[:, None, None]

    def run(self, prompt: Sequence[int], num_steps: int, end: int, check_every: int = 8) -> Tensor:
        """Tokens ``[rows, <= num_steps]``; stops early where every row has ended, looked at now and then."""
        self.at.zero_()
        tokens = torch.tensor(prompt, device=self.model.device).expand(self.token.shape[0], -1)
        self.token[:] = self._forward(tokens)
        self.at += len(prompt)
        out = [self.token.clone()]
        has_ended = self.token == end
        for step in range(1, num_steps):
            self._step()
            out.append(self.token.clone())
            has_ended |= self.token == end
            if step % check_every == 0 and bool(has_ended.all()):
                break
        return torch.cat(out, dim=1)

    def _step(self) -> None:
        if self._graph is not None:
            self._graph.replay()
            return
        self._step_eagerly()

    def _step_eagerly(self) -> None:
        self.token.copy_(self._forward(self.token))
        self.at += 1

    def _capture(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._step_eagerly()
        torch.cuda.current_stream().wait_stream(stream)
        self.at.zero_()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._step_eagerly()

    def _forward(self, tokens: Tensor) -> Tensor:
        """int64 ``[rows, steps]`` -> the best token after them ``[rows, 1]``."""
        model = self.model
        places = self.at + torch.arange(tokens.shape[1], device=model.device)
        x = model.embedding[tokens] + model.positions["decoder"][places]
        is_past = self.places <= places[:, None]  # [steps, tokens]
        for i, layer in enumerate(model.decoder):
            normed = model._norm(x, layer["self_attn_layer_norm"])
            query, key, value = (model._heads(part) for part in F.linear(normed, *layer["qkv"]).chunk(3, dim=-1))
            keys, values = self.past[2 * i], self.past[2 * i + 1]
            keys.index_copy_(2, places, key)
            values.index_copy_(2, places, value)
            mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=is_past)
            x = x + F.linear(model._flat(mixed), *layer["out"])
            query = model._heads(F.linear(model._norm(x, layer["cross_norm"]), *layer["cross_query"]))
            crossed = self.crossed[2 * i], self.crossed[2 * i + 1]
            mixed = F.scaled_dot_product_attention(query, *crossed, attn_mask=self.heard)
            x = x + F.linear(model._flat(mixed), *layer["cross_out"])
            x = x + model._feed_forward(x, layer)
        newest = model._norm(x[:, -1:], model.norms["decoder"])
        logits = F.linear(newest, model.embedding)[:, 0] + self.never
        return logits.argmax(dim=-1, keepdim=True)


def encoder_flops(model: TorchWhisper, num_frames: int) -> float:
    """Multiplications and additions of one window of ``num_frames`` states, what the decoder attends to included."""
    width, hidden = model.width, model.encoder[0]["fc1"][0].shape[0]
    mels = model.convolutions[0][0].shape[1]
    spectrum = 2 * num_frames * (DFT * 2 * BINS + BINS * mels)
    convolutions = 2 * num_frames * 3 * mels * width + num_frames * 3 * width * width
    layer = num_frames * (4 * width * width + 2 * width * hidden) + 2 * num_frames * num_frames * width
    crossed = len(model.decoder) * num_frames * 2 * width * width
    return 2.0 * (spectrum + convolutions + len(model.encoder) * layer + crossed)


def step_cost(model: TorchWhisper, num_rows: int, num_frames: int, num_past: int) -> tuple[float, float]:
    """FLOP, and bytes that must be read, of one decoder step over ``num_rows``."""
    width, hidden = model.width, model.decoder[0]["fc1"][0].shape[0]
    layers = len(model.decoder)
    weights = layers * (6 * width * width + 2 * width * hidden) + model.embedding.numel()
    attended = 2 * layers * (num_frames + num_past) * width
    size = torch.finfo(model.dtype).bits // 8
    return 2.0 * num_rows * (weights + attended), float(size * (weights + num_rows * attended))
