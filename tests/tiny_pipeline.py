"""A text-to-image pipeline of random weights, built on the spot: all of it is real but the beauty of the picture."""
import json
import string
from pathlib import Path

import torch


def tiny_pipeline(folder: Path, *, checker: bool = False, safetensors: bool = True) -> Path:
    """Save a Stable Diffusion of 16 px with random weights to `folder`, with a safety checker that objects to all if asked."""
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
                                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), attention_head_dim=4,
                                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=16)
    vae = AutoencoderKL(block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=4,
                        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, sample_size=16)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=600, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                        num_attention_heads=2, max_position_embeddings=24, bos_token_id=0, eos_token_id=1))
    pipe = StableDiffusionPipeline(vae=vae, text_encoder=text, tokenizer=tokenizer(folder / "words"), unet=unet,
                                   scheduler=PNDMScheduler(skip_prk_steps=True, steps_offset=1), requires_safety_checker=False,
                                   **_checker() if checker else {"safety_checker": None, "feature_extractor": None})
    pipe.save_pretrained(folder, safe_serialization=safetensors)
    return folder


def tokenizer(folder: Path):
    """Return CLIP's tokenizer over single letters."""
    from transformers import CLIPTokenizer

    letters = string.ascii_lowercase + string.digits + ",.-'"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=24,
                         bos_token=words[0], eos_token=words[1], unk_token=words[1], pad_token=words[1])


def _checker():
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16,
              "patch_size": 8}
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=16))
    with torch.no_grad():
        checker.concept_embeds_weights.fill_(-2.0)  # thresholds below every likeness: it objects to everything
        checker.concept_embeds.fill_(1.0)
    return {"safety_checker": checker, "feature_extractor": CLIPImageProcessor(size=16, crop_size=16)}
