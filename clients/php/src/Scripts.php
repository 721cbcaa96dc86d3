<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * The Lua scripts of lua/.
 *
 * @internal
 */
final class Scripts
{
    /**
     * A request should not have to read and hash a script. After a change of one, run
     * UPDATE=1 ./test --filter ScriptsTest, which writes this list.
     */
    public const SHA1 = [
        'apply' => '8e95b5f9c29412223daadbe0a834c5672d5e015e',
        'clean' => '7bf7903fcb6ef04085bc6fff4e4aae8ba1336645',
        'create' => '04f43bc86288adfd05da364e9e22d1c1a077be57',
        'end' => 'cc4c2a35b48053ede4b946fbb18d936247604df4',
        'enduser' => '4b1768009d5797eab70d24e110276799d75d1fa8',
        'join' => '38c21988fbc15031ead8cf097fbf010548a15d6a',
        'move' => 'c198309800eb200f5a11dd39e234ad550c5cda5f',
        'publish' => '2a770e2855e680ec34e3a0a04fc3e81f45ae680a',
        'revokeall' => 'd8d911ce4c594a69ed4ccce7a31a6bdd3fd56bd5',
        'signin' => '19ee4b7fde0c1b3331bc7f333a9b6da0dcf49b45',
        'touch' => '34e0d64b8a9d3d835737cb773f25626f0dd574bc',
    ];

    public static function source(string $name): string
    {
        $source = \file_get_contents(\dirname(__DIR__) . "/lua/$name.lua");
        return $source === false ? throw new \RuntimeException("session: $name.lua is missing") : $source;
    }
}
