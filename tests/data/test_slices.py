import numpy as np

from octa_backend.data.slices import three_slices


def test_three_slices_go_through_the_middle_of_what_is_marked():
    image = np.zeros((1, 20, 30, 40), np.float32)
    mask = np.zeros((20, 30, 40), np.uint8)
    image[0, 3, 4, 5], mask[3, 4, 5] = 1000, 2
    picture, classes = three_slices(image, mask)
    assert picture.shape == (1, *classes.shape)
    assert classes.shape[0] == 30
    assert set(np.unique(classes)) == {0, 2}
    widths = (40, 60, 45)  # axial 30x40, coronal 20x40 and sagittal 20x30 as high as the axial one
    parts = np.split(classes, np.cumsum(widths)[:-1], axis=1)
    assert all(part.any() for part in parts)
    assert np.argwhere(parts[0]).tolist() == [[25, 5]]  # row 4 from below: the front is up
    assert picture.max() <= 1


def test_thick_slices_are_drawn_thick():
    picture, _ = three_slices(np.ones((1, 4, 32, 32), np.float32), np.zeros((4, 32, 32), np.uint8), (8.0, 1.0, 1.0))
    assert picture.shape == (1, 32, 96)


def test_a_constant_volume_is_black():
    picture, _ = three_slices(np.full((1, 20, 20, 20), 7, np.uint8), np.zeros((20, 20, 20), np.uint8))
    assert not picture.any()
