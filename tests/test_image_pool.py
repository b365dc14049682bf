"""The pool of past fakes: what it returns, what it keeps, its statistics under a seed."""

import numpy as np
import pytest

import mindspore as ms

from cyclegan_ms.model.image_pool import ImagePool

pytestmark = pytest.mark.quick


def numbered(i):
    return np.full((1, 2, 2), i, np.float32)


def run(pool, count):
    return [int(pool.query([numbered(i)])[0].max()) for i in range(count)]


def test_fills_with_what_it_returns():
    assert run(ImagePool(50), 50) == list(range(50))


def test_size_zero_returns_the_very_image():
    pool, image = ImagePool(0), numbered(1)
    assert pool.query([image])[0] is image
    assert pool.images == []


def test_half_are_past_and_each_past_one_is_handed_out_once():
    pool = ImagePool(50, seed=3)
    count = 10_000
    returned = run(pool, count)[50:]
    past = [r for i, r in enumerate(returned, 50) if r != i]
    # Binomial with 9950 draws at 1/2: standard deviation 49.9; four of them.
    assert abs(len(past) - 9950 / 2) < 200
    assert len(set(returned)) == len(returned)
    kept = sorted(int(image.max()) for image in pool.images)
    assert sorted(past + kept + [r for i, r in enumerate(returned, 50) if r == i]) == list(
        range(count)
    )


def test_replaced_images_are_uniform():
    """An image waits a geometric time: replaced with 1/2 * 1/50 per query, 100 on average."""
    pool = ImagePool(50, seed=4)
    returned = run(pool, 20_000)
    ages = [i - r for i, r in enumerate(returned) if r != i]
    # Standard deviation of one age about 100, of the mean of 10000 ages about 1.
    assert np.mean(ages) == pytest.approx(100, abs=5)


def test_same_seed_same_draws_whatever_numpy_does_elsewhere():
    first = run(ImagePool(5, seed=[7, 1]), 200)
    np.random.seed(0)
    assert run(ImagePool(5, seed=[7, 1]), 200) == first
    assert run(ImagePool(5, seed=[7, 2]), 200) != first


def test_keeps_copies():
    pool, image = ImagePool(1, seed=0), numbered(1)
    pool.query([image])
    image[:] = 9
    assert pool.images[0].max() == 1


def test_batches_go_through_one_by_one():
    together, single = ImagePool(3, seed=5), ImagePool(3, seed=5)
    batches = [together.query([numbered(2 * i), numbered(2 * i + 1)]) for i in range(20)]
    out = [int(image.max()) for batch in batches for image in batch]
    assert out == run(single, 40)


def test_tensors_stay_tensors_and_are_drawn_like_arrays(mode, rng):
    """Values too are the same, to the last bit."""
    of_arrays, of_tensors = ImagePool(3, seed=5), ImagePool(3, seed=5)
    for image in rng.normal(size=(40, 3, 4, 4)).astype(np.float32):
        (array,), (tensor,) = of_arrays.query([image]), of_tensors.query([ms.Tensor(image)])
        assert isinstance(tensor, ms.Tensor) and np.array_equal(tensor.asnumpy(), array)
    for array, tensor in zip(of_arrays.images, of_tensors.images):
        assert isinstance(tensor, ms.Tensor) and np.array_equal(tensor.asnumpy(), array)


def test_negative_size_is_refused():
    with pytest.raises(ValueError, match="-1"):
        ImagePool(-1)
