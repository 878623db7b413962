"""Adam on unit-norm gradients against the rule written out."""

import pytest
import torch

from recbole_evcf.trainer.trainer import AdamNormGrad


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_steps_follow_the_formula(weight_decay):
    torch.manual_seed(0)
    start = [torch.randn(3, 4), torch.randn(5)]
    parameters = [torch.nn.Parameter(t.clone()) for t in start]
    optimizer = AdamNormGrad(parameters, lr=0.01, weight_decay=weight_decay)
    values = [t.clone().double() for t in start]
    first = [torch.zeros_like(v) for v in values]
    second = [torch.zeros_like(v) for v in values]
    for step in range(1, 6):
        for index, parameter in enumerate(parameters):
            gradient = torch.randn_like(parameter) * 10**index
            parameter.grad = gradient.clone()
            g = gradient.double() / (gradient.double().norm() + 1e-7)
            g = g + weight_decay * values[index]
            first[index] = 0.9 * first[index] + 0.1 * g
            second[index] = 0.999 * second[index] + 0.001 * g**2
            corrected = second[index] / (1 - 0.999**step)
            update = first[index] / (1 - 0.9**step) / (corrected.sqrt() + 1e-8)
            values[index] = values[index] - 0.01 * update
        optimizer.step()
    for parameter, value in zip(parameters, values):
        torch.testing.assert_close(parameter.detach().double(), value, rtol=1e-4, atol=1e-6)


def test_parameters_without_gradient_stay():
    parameter = torch.nn.Parameter(torch.ones(2))
    AdamNormGrad([parameter], lr=1.0).step()
    assert parameter.tolist() == [1, 1]


def test_a_zero_gradient_is_no_nan():
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.zeros(2)
    AdamNormGrad([parameter], lr=1.0).step()
    assert parameter.tolist() == [1, 1]
