"""The networks of a VAE: encoder q_φ(z | x), decoder of p_θ(x | z), and with classes q_φ(y | x) and p(y).

    encoder      x ↦ h = first(body(x)) + label(y) ↦ (μ, log σ²),   q(z | x, y) = N(μ, diag σ²)
    decoder      z ↦ h = first(z) + label(y) ↦ outputs o of the likelihood
    classifier   x ↦ logits of q(y | x)

Labels enter beside the first layer, which is the same as giving them to the network as one-hot inputs, except
that for all classes at once the first layer, the largest, is computed once. Layers are ReLU networks with
torch's own initial values.
"""

import torch
from torch import Tensor, nn

from ppl_models.networks.backbones import Convolutions, Deconvolutions, Network
from ppl_models.networks.product import Product


class Networks(nn.Module):
    """Everything that a VAE learns.

    Args:
        product: the likelihood of a row.
        latent: dimensions of z.
        hidden: sizes of the hidden layers of the encoder; the decoder has them in reverse.
        classes: number of classes of the target; 0 for none.
        image: height, width and channels for convolutions; None for plain layers.
    """

    def __init__(
        self,
        product: Product,
        latent: int,
        hidden: tuple[int, ...],
        classes: int = 0,
        image: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        self.likelihood, self.latent, self.classes = product, latent, classes
        back = hidden[::-1]

        def encoder(outputs: int, labels: int) -> Network:
            if image is None:
                return Network(product.inputs, hidden, outputs, labels)
            body = Convolutions(image, product.masked)
            return Network(body.features, hidden, outputs, labels, body=body)

        self.encoder = encoder(2 * latent, classes)
        if image is None:
            self.decoder = Network(latent, back, product.outputs, classes)
        else:
            tail = Deconvolutions(image)
            self.decoder = Network(latent, back, tail.features, classes, tail=tail)
        self.classifier = encoder(classes, 0) if classes else None
        self.class_logits = nn.Parameter(torch.zeros(classes)) if classes else None

    def posterior(self, features: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | x, y), (..., B, L) each."""
        mean, log_var = self.encoder(features, label).chunk(2, -1)
        return mean, log_var

    def log_prior_y(self) -> Tensor:
        """Log p(y), (C,)."""
        return _with(self.class_logits, "classes").log_softmax(-1)

    def log_q_y(self, features: Tensor) -> Tensor:
        """Log q(y | x), (B, C)."""
        return _with(self.classifier, "classes")(features).log_softmax(-1)

    def one_hot(self, y: Tensor) -> Tensor:
        """Codes (...) as labels for the networks, (..., C)."""
        return nn.functional.one_hot(y, self.classes).to(self.decoder.first.weight.dtype)

    def every_class(self) -> Tensor:
        """One label for each class, to be broadcast against rows: (C, 1, C)."""
        weight = self.decoder.first.weight
        return torch.eye(self.classes, device=weight.device, dtype=weight.dtype).unsqueeze(1)


def _with(part, what: str):
    if part is None:
        raise RuntimeError(f"these networks have no {what}")
    return part
