<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * Cuts a stored value into its parts, from left to right.
 *
 * @internal
 */
final class Packed
{
    private int $at = 0;

    public function __construct(private readonly string $name, private readonly string $text, int $width)
    {
        if (\strlen($text) !== $width) {
            throw new FormatException($name, 'it has ' . \strlen($text) . " bytes, not $width");
        }
    }

    public function cut(int $width): string
    {
        $this->at += $width;
        return \substr($this->text, $this->at - $width, $width);
    }

    public function number(int $width, int $most = Text::MAX_TIME): int
    {
        $part = $this->cut($width);
        return Text::number($part, $width, $most) ?? throw new FormatException($this->name, "\"$part\" is no number in its range");
    }

    public function hash(): string
    {
        $part = $this->cut(22);
        return Text::isHash($part) ? $part : throw new FormatException($this->name, "\"$part\" is no hash");
    }
}
