defmodule Pyre.CodeLoadingTest do
  use ExUnit.Case, async: true

  test "all modules of the applications are loaded" do
    {:ok, modules} = :application.get_key(:pyre, :modules)
    :ok = Pyre.CodeLoading.load()
    assert Enum.reject(modules, &:code.is_loaded/1) == []
  end
end
