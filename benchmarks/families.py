"""The families of convolutional networks that timm has, and a small member of each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """A network that stands for its family."""

    architecture: str
    """Its name in timm."""
    size: int = 64
    """The side of its input in pixels: small, so that it can be trained in seconds."""


FAMILIES = {
    "ResNet": Member("resnet18"),
    "ResNetV2": Member("resnetv2_18"),
    "ResNeXt": Member("resnext26ts"),
    "SE-ResNet": Member("seresnet18"),
    "ECA-ResNet": Member("ecaresnet26t"),
    "ResNeSt": Member("resnest14d"),
    "RegNetX": Member("regnetx_002"),
    "RegNetY": Member("regnety_002"),
    "GENet": Member("gernet_s"),
    "MobileNetV2": Member("mobilenetv2_050"),
    "MobileNetV3": Member("mobilenetv3_small_050"),
    "MobileNetV4": Member("mobilenetv4_conv_small_050"),
    "EfficientNet": Member("efficientnet_b0"),
    "EfficientNet-Lite": Member("efficientnet_lite0"),
    "EfficientNetV2": Member("tf_efficientnetv2_b0"),
    "EfficientViT": Member("efficientvit_b0"),
    "MixNet": Member("mixnet_s"),
    "MNASNet": Member("mnasnet_small"),
    "FBNet": Member("fbnetc_100"),
    "TinyNet": Member("tinynet_e"),
    "LCNet": Member("lcnet_050"),
    "GhostNet": Member("ghostnet_050"),
    "GhostNetV2": Member("ghostnetv2_100"),
    "GhostNetV3": Member("ghostnetv3_050"),
    "RepGhostNet": Member("repghostnet_050"),
    "RepVGG": Member("repvgg_a0"),
    "MobileOne": Member("mobileone_s0"),
    "FastViT": Member("fastvit_t8"),
    "StarNet": Member("starnet_s1"),
    "ConvNeXt": Member("convnext_atto"),
    "ConvNeXtV2": Member("convnextv2_atto"),
    "InceptionNeXt": Member("inception_next_atto"),
    "EdgeNeXt": Member("edgenext_xx_small"),
    "MambaOut": Member("mambaout_femto"),
    "DenseNet": Member("densenet121"),
    "RDNet": Member("rdnet_tiny"),
    "VGG": Member("vgg11_bn", 224),
    "Inception V3": Member("inception_v3", 128),
    "Inception V4": Member("inception_v4", 128),
    "Xception": Member("xception", 96),
    "DLA": Member("dla46_c"),
    "DPN": Member("dpn48b"),
    "HRNet": Member("hrnet_w18_small"),
    "NFNet": Member("nfnet_l0"),
    "NF-RegNet": Member("nf_regnet_b0"),
    "SelecSLS": Member("selecsls42b"),
    "ReXNet": Member("rexnet_100"),
    "VoVNet": Member("ese_vovnet19b_dw"),
    "CSPNet": Member("cspresnet50"),
    "HGNet": Member("hgnet_tiny"),
    "HGNetV2": Member("hgnetv2_b0"),
    "HaloNet": Member("halonet26t", 128),
    "LambdaNet": Member("lambda_resnet26t", 128),
}
