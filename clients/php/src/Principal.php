<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * Who is signed in, in words: the info of the format.
 *
 * @internal
 */
final class Principal
{
    /** @param list<string> $methods */
    public function __construct(
        public readonly string $user,
        public readonly array $methods = [],
        public readonly string $device = '',
        public readonly string $agent = '',
        public readonly string $address = '',
    ) {
    }

    public static function decode(string $text): self
    {
        $in = \json_decode($text, false);
        if (!$in instanceof \stdClass) {
            throw new FormatException('@i', 'it is not a JSON object');
        }
        $in = \array_filter((array) $in, fn (mixed $v): bool => $v !== null);
        $unknown = \array_diff(\array_map(\strval(...), \array_keys($in)), ['user', 'methods', 'device', 'agent', 'address']);
        if ($unknown !== []) {
            throw new FormatException('@i', 'unknown member ' . \reset($unknown));
        }
        $methods = $in['methods'] ?? [];
        foreach ([$in['user'] ?? '', $in['device'] ?? '', $in['agent'] ?? '', $in['address'] ?? '', ...(array) $methods] as $value) {
            if (!\is_string($value)) {
                throw new FormatException('@i', 'a member has another type');
            }
        }
        if (!\is_array($methods)) {
            throw new FormatException('@i', 'methods is no list');
        }
        $user = Text::decode($in['user'] ?? '') ?? throw new FormatException('@i', 'the user is not base64url');
        $p = new self($user, \array_values($methods), $in['device'] ?? '', $in['agent'] ?? '', $in['address'] ?? '');
        $why = $p->problem();
        return $why === null ? $p : throw new FormatException('@i', $why);
    }

    public function encode(): string
    {
        return \json_encode(\array_filter([
            'user' => Text::encode($this->user), 'methods' => $this->methods, 'device' => $this->device,
            'agent' => $this->agent, 'address' => $this->address,
        ], fn (mixed $v): bool => $v !== '' && $v !== []), JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES);
    }

    /** Why it is out of the format's bounds, or null. */
    public function problem(): ?string
    {
        $texts = [['device', $this->device, 128], ['agent', $this->agent, 512], ['address', $this->address, 64]];
        foreach ($this->methods as $method) {
            $texts[] = ['method', $method, 32];
        }
        foreach ($texts as [$name, $text, $most]) {
            if (\strlen($text) > $most || !Text::isUtf8($text)) {
                return "the $name has more than $most bytes, or is not UTF-8";
            }
        }
        return match (true) {
            $this->user === '' || \strlen($this->user) > 256 => 'a user id has 1 to 256 bytes',
            \count($this->methods) > 16 => 'there are more than 16 methods',
            default => null,
        };
    }
}
